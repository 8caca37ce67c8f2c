"""Manifests made elsewhere: paths corrected, labels in our words, everything checked like a corpus."""

from pathlib import Path

import pytest
from lhotse import CutSet, MonoCut, MultiCut, Recording, SupervisionSegment

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


def test_text_of_other_sound_than_the_cut_has(tmp_path: Path) -> None:
    recording = Recording.from_file(write_audio(tmp_path / "stereo.wav", seconds=2, channels=2))
    theirs = tmp_path / "theirs"
    theirs.mkdir()

    def cut(
        name: str, channel: int | list[int], start: float = 0.0, duration: float = 2.0
    ) -> MonoCut | MultiCut:
        kind = MultiCut if isinstance(channel, list) else MonoCut
        said = SupervisionSegment(
            name, recording.id, start, duration, channel, text="hi", custom={"dialect": "north"}
        )
        custom = {"emotion": "sad", "dialect": "unheard"}
        return kind(name, 0.0, 2.0, channel, supervisions=[said], recording=recording, custom=custom)

    cuts = [cut("left", 0), cut("right", 1), cut("both", [0, 1], 0.05, 1.9)]
    cuts += [cut("part", [0, 1], 0.5, 0.5), cut("more", [0, 1], -1.0, 3.0)]
    write_cuts([*cuts, cut("padded", 0).pad(3.0, preserve_id=True)], theirs / "cuts_train.jsonl.gz")
    prepared = prepare("cuts", theirs)
    assert {id: facts(cut) for id, cut in prepared.train.items()} == {
        "both": {"text": "hi", "emotion": "sad", "dialect": "north"}
    }
    assert prepared.rejects == {
        "left": "some channels only",
        "right": "some channels only",
        "part": "supervision of a part",
        "more": "supervision of a part",
        "padded": "malformed row",
    }
    again = prepare("cuts", tmp_path / "theirs-prepared")
    assert list(again.train) == ["both"]  # what we write of a stereo recording is read again
    assert again.train["both"].load_audio().shape == (2, 32_000)


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
