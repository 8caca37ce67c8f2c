"""Manifests made elsewhere: paths corrected, labels in our words, everything checked like a corpus."""

from pathlib import Path

import pytest
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from azeros.data.manifests import write_cuts
from tests.data.recipes.miniature import facts, prepare, refusal, write_audio
from tests.small import run


def elsewhere(
    root: Path, name: str, start: float = 0.0, duration: float = 2.0, emotion: str = "joy"
) -> MonoCut:
    """A cut of a recording in `root`, with the path that it had on another machine."""
    path = write_audio(root / f"audio/{name}.wav", seconds=2)
    recording = Recording.from_file(path)
    recording.sources[0].source = f"/elsewhere/data/{name}.wav"
    custom = {"age": "34", "emotion": emotion, "dialect": "north"}
    said = SupervisionSegment(
        name, name, 0.0, duration, text="hi", language="English", gender="F", custom=custom
    )
    return MonoCut(name, start, duration, channel=0, supervisions=[said], recording=recording)


def test_paths_and_labels(tmp_path: Path) -> None:
    manifests = tmp_path / "theirs"
    manifests.mkdir()
    whole, part = elsewhere(tmp_path, "a"), elsewhere(tmp_path, "b", 0.5, 1.0)
    write_cuts([whole, part, elsewhere(tmp_path, "c", emotion="bored")], manifests / "cuts_dev.jsonl.gz")
    CutSet.from_cuts([elsewhere(tmp_path, "d"), elsewhere(tmp_path, "e").drop_supervisions()]).to_file(
        manifests / "anything.jsonl.gz"
    )
    (tmp_path / "audio/d.wav").unlink()
    prefix = f"replace_prefix={{/elsewhere/data: {tmp_path / 'audio'}}}"
    with pytest.raises(AssertionError, match="none is left"):
        prepare("cuts", manifests)
    prepared = prepare("cuts", manifests, prefix)
    assert list(prepared.cuts["validation"]) == ["a", "b"]
    assert facts(prepared.cuts["validation"]["a"]) == {
        "text": "hi",
        "language": "en",
        "gender": "female",
        "age": "34",
        "age_group": "young adult",
        "emotion": "happy",
        "dialect": "north",
    }
    cut = prepared.cuts["validation"]["b"]
    assert (cut.start, cut.duration, cut.recording.duration) == (0.5, 1.0, 2.0)
    assert prepared.rejects == {"c": "unknown emotion", "d": "audio missing", "e": "malformed row"}


def test_the_prefix_as_a_flag(tmp_path: Path) -> None:
    write_cuts([elsewhere(tmp_path, "a")], tmp_path / "cuts_train.jsonl.gz")
    flags = ["--replace-prefix", f"/elsewhere/data={tmp_path / 'audio'}"]
    assert (
        run(
            "data", "prepare", "cuts", str(tmp_path / "cuts_train.jsonl.gz"), str(tmp_path / "out"), *flags
        ).exit_code
        == 0
    )
    assert (
        "unknown key 'replace_prefix'"
        in run("data", "prepare", "tess", "x", str(tmp_path / "no"), *flags).stderr
    )


def test_no_manifests(tmp_path: Path) -> None:
    assert "no manifest *.jsonl.gz in it" in refusal("cuts", tmp_path)
