"""WenetSpeech: segments of long opus recordings, or recordings already cut; entries without file or fields."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse.recipes import prepare_wenet_speech

from azeros.data.audio import load_audio, load_cut
from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text

AID = "Y0000000000_--5llN02F84"
PLACE = f"audio/train/youtube/B00000/{AID}.opus"


def segment(number: int, begin: Any = 0.5, end: float = 2.0, **more: Any) -> dict[str, Any]:
    fields = {"sid": f"{AID}_S{number:05d}", "begin_time": begin, "end_time": end, "confidence": 1.0}
    return fields | {"subsets": ["L"], "text": "怎么样\u3000这些Ω日子\u00a0"} | more


def corpus(root: Path, *segments: Any, place: str = PLACE) -> Path:
    audio = {"aid": AID, "duration": 4.0, "md5": "48af", "path": place, "source": "youtube"}
    lost = audio | {"aid": "Z", "path": "audio/train/youtube/B00000/Z.opus"}
    audios = [audio | {"segments": segments}, lost | {"segments": [segment(90) | {"sid": "Z_S00000"}]}]
    write_text(root / "WenetSpeech.json", json.dumps({"audios": audios}, ensure_ascii=False))
    return root


def test_segments_of_long_recordings(tmp_path: Path) -> None:
    segments = [
        segment(0),
        segment(2, 2.0, 3.5, subsets=["W"]),
        segment(3, 2.0, 1.0),
        segment(4, 3.0, 9.0),
        segment(5, 2.0, 3.0, subsets=["DEV"]),
        {"begin_time": 0.5, "end_time": 1.0, "subsets": ["L"], "text": "好"},
        segment(6, text=None),
    ]
    root = corpus(tmp_path / "WenetSpeech", *segments)
    audio = write_audio(root / PLACE, seconds=4, rate=48_000)
    prepared = prepare("wenetspeech", root, "subsets=[L, DEV]")
    cut = prepared.train[f"{AID}_S00000"]
    assert facts(cut) == {"text": "怎么样这些日子", "language": "zh", "confidence": 1.0}
    assert (cut.start, cut.duration, cut.recording.id) == (0.5, 1.5, AID)
    assert cut.recording.duration == pytest.approx(4)
    assert np.array_equal(load_cut(cut), load_audio(audio, 0.5, 1.5))
    assert cut.load_audio().shape == (1, 24_000)
    assert len(prepared.train) == 1
    assert list(prepared.cuts["validation"]) == [f"{AID}_S00005"]
    assert prepared.rejects == {
        f"{AID}_S00003": "malformed row",
        f"{AID}_S00004": "audio cut short",
        f"{AID}, a segment without sid": "malformed row",
        f"{AID}_S00006": "malformed row",
        "Z_S00000": "audio missing",
    }


# lhotse leaves its JSON file open.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_equals_lhotse(tmp_path: Path) -> None:
    root = corpus(tmp_path / "WenetSpeech", segment(0, text="好"), segment(1, 2.0, 3.0, text="不好"))
    write_audio(root / PLACE, seconds=4, rate=48_000)
    ours = prepare("wenetspeech", root).train
    theirs = prepare_wenet_speech(root, dataset_parts=["L"])["L"]["supervisions"]
    assert ours.keys() == {said.id for said in theirs} - {"Z_S00000"}
    for said in theirs:
        if said.id in ours:
            cut = ours[said.id]
            assert (facts(cut)["text"], cut.recording.id) == (said.text, said.recording_id)
            assert (cut.start, cut.end) == (said.start, said.end)


def test_recordings_already_cut(tmp_path: Path) -> None:
    root = corpus(tmp_path / "WenetSpeech", segment(0), segment(7))
    write_audio(root / f"wavs/train_l/{AID}/{AID}_S00000.wav", seconds=1.5)
    prepared = prepare("wenetspeech", root)
    cut = prepared.train[f"{AID}_S00000"]
    assert (cut.start, cut.duration, cut.recording.id) == (0, 1.5, cut.id)
    assert prepared.rejects == {f"{AID}_S00007": "audio missing", "Z_S00000": "audio missing"}


def test_entries_that_are_no_segments(tmp_path: Path) -> None:
    segments = [
        segment(0),
        segment(1, "abc"),
        segment(2, [0]),
        segment(3, "nan"),
        segment(4, subsets="L"),
        "x",
    ]
    root = corpus(tmp_path / "WenetSpeech", *segments)
    write_audio(root / PLACE, seconds=4, rate=48_000)
    path = root / "WenetSpeech.json"
    content = json.loads(path.read_text())
    content["audios"] += ["x", {"aid": "a", "path": PLACE, "segments": None}]
    path.write_text(json.dumps(content))
    prepared = prepare("wenetspeech", root)
    assert list(prepared.train) == [f"{AID}_S00000"]
    malformed = [f"{AID}_S0000{number}" for number in (1, 2, 3, 4)]
    places = ("entry 1 of audios, segment 6", "entry 3 of audios", "entry 4 of audios")
    malformed += [f"WenetSpeech.json: {place}" for place in places]
    wanted = dict.fromkeys(malformed, "malformed row") | {"Z_S00000": "audio missing"}
    assert prepared.rejects == wanted


def test_damaged_json(tmp_path: Path) -> None:
    root = corpus(tmp_path / "WenetSpeech", segment(0))
    path = root / "WenetSpeech.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert "WenetSpeech.json: not the JSON it should be" in refusal("wenetspeech", root)
