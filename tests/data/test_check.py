"""Each fault that is planted in a checked manifest is found by its name, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from azeros.data.check import check_manifests
from azeros.data.manifests import cuts_path, read_cuts, write_cuts
from azeros.errors import ManifestError
from tests.data.recipes.miniature import prepare, write_audio
from tests.small import run

NAMES = "abcdefgh"


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Manifests of eight recordings, as prepare made them; the recordings lie in `wavs` beside them."""
    for name in NAMES:
        write_audio(tmp_path / f"wavs/{name}.wav", rate=8000 if name == "a" else 16_000)
    rows = "".join(f"{name}.wav,hello {name}\n" for name in NAMES)
    (tmp_path / "wavs/metadata.csv").write_text(f"file_name,text\n{rows}")
    prepare("folder", tmp_path / "wavs")
    return tmp_path / "wavs-prepared"


def found(path: Path) -> dict[str, str]:
    return {finding.id: finding.fault for finding in check_manifests(path, max_chars_per_s=30)}


def test_what_prepare_made_is_right(manifests: Path) -> None:
    assert found(manifests) == {}


def test_recordings_that_changed(manifests: Path, tmp_path: Path) -> None:
    wavs = tmp_path / "wavs"
    second = np.sin(np.arange(16_000) / 5)
    nan = second.astype(np.float32)
    nan[3] = np.nan
    soundfile.write(wavs / "a.wav", 0.2 * second, 16_000)
    (wavs / "b.wav").unlink()
    (wavs / "c.wav").write_bytes(b"no sound")
    soundfile.write(wavs / "d.wav", 0.3 * second[:8000], 16_000)
    soundfile.write(wavs / "e.wav", np.zeros(16_000), 16_000)
    soundfile.write(wavs / "f.wav", np.clip(2 * second, -1, 1), 16_000)
    soundfile.write(wavs / "g.wav", nan, 16_000, subtype="FLOAT")
    assert found(manifests) == {
        "a": "sampling rate",
        "b": "missing",
        "c": "unreadable",
        "d": "duration",
        "e": "silent",
        "f": "clipped",
        "g": "not finite",
    }


def test_cuts_that_changed(manifests: Path, tmp_path: Path) -> None:
    cuts = list(read_cuts(cuts_path(manifests, "train")))
    cuts[1].supervisions[0].text = "x" * 31
    cuts[2].recording = cuts[3].recording
    cuts[4].recording = None
    write_cuts([*cuts, cuts[0]], tmp_path / "cuts.jsonl.gz")
    findings = list(check_manifests(tmp_path / "cuts.jsonl.gz", max_chars_per_s=30))
    assert [(finding.id, finding.fault) for finding in findings] == [
        ("b", "text too long"),
        ("d", "duplicate audio"),
        ("e", "no recording"),
        ("a", "duplicate id"),
    ]
    assert "the same sound as c" in findings[1].detail


def test_cuts_that_are_no_utterance(manifests: Path, tmp_path: Path) -> None:
    cuts = list(read_cuts(cuts_path(manifests, "train")))
    cuts[0] = cuts[0].drop_supervisions()
    cuts[1] = cuts[1].pad(3.0, preserve_id=True)
    cuts[7].supervisions[0].text = "x" * 31
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    wanted = {"a": "supervisions", "b": "mixed", "h": "text too long"}
    assert found(tmp_path / "cuts.jsonl.gz") == wanted


def test_a_place_for_findings_is_asked_for_first(manifests: Path, tmp_path: Path) -> None:
    (tmp_path / "wavs/b.wav").unlink()
    place = str(tmp_path / "wavs/a.wav/findings.jsonl")
    result = run("data", "check", str(manifests), "--findings", place)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be written" in result.stderr


def test_the_command(manifests: Path, tmp_path: Path) -> None:
    assert run("data", "check", str(manifests)).stdout == "nothing is wrong\n"
    (tmp_path / "wavs/b.wav").unlink()
    kept = tmp_path / "new/findings.jsonl"
    result = run("data", "check", str(manifests), "--findings", str(kept))
    assert result.exit_code == 1
    assert result.stdout.endswith("1 missing\n")
    assert [json.loads(line)["id"] for line in kept.read_text().splitlines()] == ["b"]


def test_no_manifests(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest"):
        list(check_manifests(tmp_path, max_chars_per_s=30))
