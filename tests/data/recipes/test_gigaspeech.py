"""GigaSpeech: segments of long recordings or the chunks of the Hugging Face release; tags in the text."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text

AID = "POD0000000025"
TEXT = "FOUR O'CLOCK TOMORROW AFTERNOON <COMMA> SAID WILLIAMS <PERIOD>"


def segment(number: int, *subsets: str, text: str = TEXT, speaker: str = "N/A") -> dict[str, Any]:
    fields = {
        "sid": f"{AID}_S{number:07d}",
        "speaker": speaker,
        "begin_time": number,
        "end_time": number + 0.8,
    }
    return fields | {"text_tn": text, "subsets": [f"{{{subset}}}" for subset in subsets]}


def long_corpus(root: Path) -> Path:
    segments = [
        segment(0, "XL", "L"),
        segment(1, "XL", text="WHO IS IT <QUESTIONMARK>", speaker="ann"),
        segment(2, "DEV", text="<NOISE>"),
        segment(3, "TEST"),
        {"sid": "x", "subsets": ["{XL}"]},
    ]
    place = f"audio/podcast/P0001/{AID}.opus"
    audio = {"aid": AID, "path": place, "sample_rate": 16_000, "subsets": ["{XL}"]}
    write_audio(root / place, seconds=4, rate=48_000)
    write_text(root / "GigaSpeech.json", json.dumps({"audios": [audio | {"segments": segments}]}))
    return root


def test_segments_of_long_recordings(tmp_path: Path) -> None:
    prepared = prepare("gigaspeech", long_corpus(tmp_path / "GigaSpeech"), "subsets=[XL, DEV]")
    first = prepared.train[f"{AID}_S0000000"]
    assert facts(first) == {"text": "FOUR O'CLOCK TOMORROW AFTERNOON, SAID WILLIAMS.", "language": "en"}
    assert (first.recording.id, first.duration, first.recording.sampling_rate) == (AID, 0.8, 16_000)
    assert facts(prepared.train[f"{AID}_S0000001"]) == {
        "text": "WHO IS IT?",
        "language": "en",
        "speaker": "ann",
    }
    assert len(prepared.train) == 2
    assert prepared.rejects == {f"{AID}_S0000002": "no speech", "x": "malformed row"}


def test_subsets_and_punctuation(tmp_path: Path) -> None:
    prepared = prepare("gigaspeech", long_corpus(tmp_path / "GigaSpeech"), "subsets=[L]", "punctuation=false")
    assert [facts(cut)["text"] for cut in prepared.train.values()] == [
        "FOUR O'CLOCK TOMORROW AFTERNOON SAID WILLIAMS"
    ]


@pytest.mark.parametrize(("columns"), ["segment_id,text", "sid,text_tn"])
def test_chunks(tmp_path: Path, columns: str) -> None:
    root = tmp_path / "gigaspeech"
    for subset, chunk in (("xs", "xs_chunks_0000"), ("l", "l_chunks_0000"), ("xl", "xl_chunks_0001")):
        more = "" if subset == "xs" else "_additional"
        rows = f"{columns},speaker\n{chunk}_S1,{TEXT},N/A\n{chunk}_S2,{TEXT},N/A\n"
        write_text(root / f"data/metadata/{subset}_metadata{more}/{chunk}_metadata.csv", rows)
        write_audio(root / f"data/audio/{subset}_files{more}/{chunk}/{chunk}_S1.wav")
    prepared = prepare("gigaspeech", root)
    assert list(prepared.train) == ["xs_chunks_0000_S1", "l_chunks_0000_S1", "xl_chunks_0001_S1"]
    assert set(prepared.rejects.values()) == {"audio missing"}
    assert list(prepare("gigaspeech", root, "subsets=[L]").train) == ["xs_chunks_0000_S1", "l_chunks_0000_S1"]
    assert "no metadata of DEV" in refusal("gigaspeech", root, "subsets=[DEV]")
