"""EmotionTalk: four sets of labels, markup of overlap and noises, gender from captions or a table."""

import json
from pathlib import Path

import pytest

from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text

FIRST = "G00002_02_01_002"
SECOND = "G00002_02_05_003"
TEXTS = {
    FIRST: "[over/]他侵犯你的生活[/over]。",
    SECOND: "对，[laughing]然后[over/我敲您]到你家[[/over]里[interrupted]完]了[/over/]",
}


def place(name: str) -> str:
    group, dialog, speaker, _ = name.split("_")
    return f"{group}/{group}_{dialog}/{group}_{dialog}_{speaker}/{name}"


def annotation(emotion: str, name: str, voice: str) -> str:
    return json.dumps(
        {
            "data": [{"emotion_result": "neutral"}],
            "emotion_result": emotion,
            "speaker_id": name.split("_")[2],
            "content": TEXTS.get(name, "你好。"),
            "sourceAttr": {"speaker": f"一位{voice}的声音", "emotion": "男女"},
        }
    )


def add(
    root: Path, name: str, voice: str = "女性", emotions: str = "happy sad", audio: str = "Audio"
) -> None:
    heard, seen = emotions.split()
    write_audio(root / f"{audio}/wav/{place(name)}.wav", rate=44_100)
    write_text(root / f"{audio}/json/{place(name)}.json", annotation(heard, name, voice))
    write_text(root / f"Multimodal/json/{place(name)}.json", annotation(seen, name, voice))


def test_labels_text_and_gender(tmp_path: Path) -> None:
    root = tmp_path / "EmotionTalk"
    add(root, FIRST, audio="audio")
    add(root, SECOND, "男性", "disgusted surprised", audio="audio")
    prepared = prepare("emotiontalk", root)
    assert facts(prepared.train[FIRST]) == {
        "text": "他侵犯你的生活。",
        "language": "zh",
        "speaker": "01",
        "gender": "female",
        "emotion": "happy",
        "emotion_raw": "happy",
    }
    second = facts(prepared.train[SECOND])
    assert (second["text"], second["gender"], second["emotion"]) == (
        "对，然后我敲您到你家里完了",
        "male",
        "disgust",
    )
    seen = prepare("emotiontalk", root, "emotion=multimodal").train
    assert [facts(cut)["emotion"] for cut in seen.values()] == ["sad", "surprised"]


def test_splits_transcripts_and_speakers(tmp_path: Path) -> None:
    root = tmp_path / "EmotionTalk"
    names = ["G00001_01_02_001", "G00012_01_02_001", "G00003_01_02_001", "G00015_01_02_001", FIRST]
    for name in names:
        add(root, name)
    rows = "".join(f"{place(name)},neutral,第{i}句。\n" for i, name in enumerate(names))
    write_text(root / "transcription.csv", "name,emotion,chinese\n" + rows)
    speakers = write_text(tmp_path / "speakers.csv", "speaker,gender\n01,M\n02,F\n")
    prepared = prepare("emotiontalk", root, f"speakers={speakers}")
    assert {split: list(cuts) for split, cuts in prepared.cuts.items()} == {
        "train": [FIRST],
        "validation": names[:2],
        "test": names[2:4],
    }
    assert facts(prepared.train[FIRST])["text"] == "第4句。"
    assert facts(prepared.train[FIRST])["gender"] == "male"


def test_faults(tmp_path: Path) -> None:
    root = tmp_path / "EmotionTalk"
    names = [f"G00002_02_01_00{number}" for number in range(1, 5)]
    for name in names:
        add(root, name)
    write_text(root / f"Audio/json/{place(names[0])}.json", "{")
    write_text(root / f"Audio/json/{place(names[1])}.json", annotation("bored", names[1], "女"))
    (root / f"Audio/wav/{place(names[2])}.wav").unlink()
    prepared = prepare("emotiontalk", root)
    assert list(prepared.train) == names[3:]
    assert prepared.rejects == {
        names[0]: "malformed row",
        names[1]: "unknown emotion",
        names[2]: "audio missing",
    }


@pytest.mark.parametrize("folder", ["Audio/wav", "audio"])
def test_no_recordings(tmp_path: Path, folder: str) -> None:
    (tmp_path / "EmotionTalk" / folder).mkdir(parents=True)
    assert "no G*.wav in a folder Audio/wav" in refusal("emotiontalk", tmp_path / "EmotionTalk")
