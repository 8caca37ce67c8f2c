"""DailyTalk: as lhotse reads it, with our labels; what lhotse's recipe ends at is named."""

import json
from pathlib import Path
from typing import Any

from lhotse.recipes import prepare_daily_talk

from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text


def entry(index: int, speaker: int, emotion: str = "no emotion") -> dict[str, Any]:
    about = {"turn": index, "topic": "work", "emotion": emotion, "act": "inform"}
    return {"index": index, "dialog_idx": 0, "speaker": speaker, "text": f" Words {index}."} | about


def corpus(root: Path, faults: bool) -> Path:
    dialogs: dict[str, dict[str, Any]] = {
        "0": {"0": entry(0, 0), "1": entry(1, 1, "happiness")},
        "7": {"0": entry(2, 1, "surprise")},
    }
    for place in ("0/0_0_d0", "0/1_1_d0", "7/0_1_d7"):
        write_audio(root / f"data/{place}.wav", rate=22_050)
        write_text(root / f"data/{place}.txt", "Words.")
    if faults:
        dialogs["7"] |= {"1": entry(3, 0), "2": {"index": 4}, "3": entry(5, 0, "boredom")}
        write_audio(root / "data/7/3_0_d7.wav")
        write_audio(root / "data/7/9_0_d7.wav")
    write_text(root / "metadata.json", json.dumps(dialogs))
    return root


def test_equals_lhotse(tmp_path: Path) -> None:
    root = corpus(tmp_path / "dailytalk", faults=False)
    recordings, supervisions = prepare_daily_talk(root)
    ours = prepare("dailytalk", root, "assume_gender=true").train
    assert ours.keys() == set(recordings.ids)
    for theirs in supervisions:
        cut = ours[theirs.recording_id]
        said = cut.supervisions[0]
        assert (said.speaker, said.text) == (theirs.speaker, theirs.text.strip())
        assert (said.gender or " ")[0].upper() == theirs.gender
        assert abs(cut.duration - theirs.duration) < 1e-3
        assert {key: said.custom[key] for key in ("turn", "topic", "act")} | {
            "emotion": said.custom["emotion_raw"]
        } == theirs.custom


def test_labels_splits_and_faults(tmp_path: Path) -> None:
    root = corpus(tmp_path / "dailytalk", faults=True)
    write_text(root / "preprocessed_data/DailyTalk/val_frame.txt", "0_1_d7|1|{W ER1 D Z}|Words|none\n")
    prepared = prepare("dailytalk", root)
    labels = {id: (facts(cut)["emotion"], facts(cut).get("gender")) for id, cut in prepared.train.items()}
    assert labels == {"dailytalk_0_0_d0": ("neutral", None), "dailytalk_1_1_d0": ("happy", None)}
    assert facts(prepared.cuts["validation"]["dailytalk_0_1_d7"])["emotion"] == "surprised"
    assert prepared.rejects == {
        "dailytalk_1_0_d7": "audio missing",
        "dailytalk_2_d7": "malformed row",
        "dailytalk_3_0_d7": "unknown emotion",
        "dailytalk_9_0_d7": "not in the metadata",
    }


def test_metadata_that_is_not_json(tmp_path: Path) -> None:
    write_text(tmp_path / "dailytalk/metadata.json", "{")
    (tmp_path / "dailytalk/data").mkdir()
    assert "metadata.json: not JSON" in refusal("dailytalk", tmp_path / "dailytalk")
