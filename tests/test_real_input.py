"""People who speak digits over 8 kHz: every stage runs on recordings that nothing here was made for, and accounts for each."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.small import run, write_params

pytestmark = pytest.mark.slow

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
# Recordings of each digit and speaker. George's from 25 on include some too short to hear, and some to learn from.
FIRST, NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 25, 15, 2, 5
SPLITS = {"george": "train", "jackson": "train", "lucas": "test"}
UNBOUNDED = {"repeat_wer", "gap_divergence"}  # figures that may exceed 1
SYSTEMS = ["text", "untrained", "stage1", "stage2"]
SETTINGS: dict[str, object] = {
    "prepare.max_rejected_share": 0.3,
    "sift.sets": {"digits_s": {"corpus": "digits", "split": "train", "mode": "sift_s"}},
    "evaluate.corpora": ["digits"],
}
TRAINED: dict[str, object] = {
    "sets": {"digits_s": 1.0},
    "batch_size": 16,
    "validation": None,
}


def write_corpus(source: Path, folder: Path) -> Path:
    """A folder corpus of links to `source`: two speakers to train on, a third to be tested."""
    folder.mkdir()
    lines = ["file_name,text,speaker,gender,split"]
    for recording in sorted(source.glob("*.wav")):
        digit, speaker, number = recording.stem.split("_")
        split = SPLITS.get(speaker)
        place = int(number) - FIRST
        if split == "train" and place >= NUM_TRAIN:
            split = "validation"
        if split and 0 <= place < (NUM_TEST if split == "test" else NUM_TRAIN + NUM_VALIDATION):
            (folder / recording.name).symlink_to(recording)
            lines.append(f"{recording.name},{WORDS[int(digit)]},{speaker},male,{split}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def digits(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the digits went through every stage."""
    folder = tmp_path_factory.mktemp("digits")
    corpus = write_corpus(shared_data / "speech" / "fsdd", folder / "wavs")
    update = SETTINGS | {"corpora": {"digits": {"recipe": "folder", "path": str(corpus), "language": "en"}}}
    for stage, num_steps in (("stage1", 150), ("stage2", 20)):
        update |= {f"train.{stage}.{key}": value for key, value in TRAINED.items()}
        update[f"train.{stage}.num_steps"] = num_steps
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        write_params(folder / "params.yaml", update)
        for command in (
            "prepare digits data/manifests/digits",
            "sift digits_s data/manifests/digits data/targets/sift_s/digits_s",
            "train stage1 data/manifests data/targets/sift_s models/stage1",
            "train stage2 data/manifests data/targets models/stage2",
            "evaluate data/manifests models reports/evaluate",
            "package models/stage2 models/azeros",
        ):
            result = run(*command.split())
            assert result.exit_code == 0, f"{command}: {result.stderr} {result.exception!r}"
    return folder


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_every_recording_is_accounted_for(digits: Path) -> None:
    prepared = read(digits / "data/manifests/digits/report.json")
    assert prepared["rows_in"] == 2 * 10 * (NUM_TRAIN + NUM_VALIDATION) + 10 * NUM_TEST
    assert prepared["rows_in"] == prepared["rows_out"] + sum(prepared["rejected"].values())
    assert prepared["rejected"].keys() == {"audio too short"}
    splits = {name: counted["utterances"] for name, counted in prepared["by"]["split"].items()}
    sifted = read(digits / "data/targets/sift_s/digits_s/report.json")
    assert sifted["rows_in"] == splits["train"]
    assert sifted["rows_in"] == sifted["rows_out"] + sum(sifted["rejected"].values())
    assert sifted["rejected"].keys() == {"shorter than filter.min_duration_s"}
    trained = read(digits / "models/stage1/metrics.json")
    left_out = sum(trained["rejected"]["digits_s"].values())
    assert trained["rows"]["digits_s"] + left_out == sifted["rows_out"]
    figures = read(digits / "reports/evaluate/metrics.json")
    assert {figures[system]["plain"]["count"] for system in SYSTEMS} == {splits["test"]}


def test_the_figures_on_an_unheard_speaker_are_shares(digits: Path) -> None:
    figures = read(digits / "reports/evaluate/metrics.json")
    for system in SYSTEMS:
        shares = {kind: figure for kind, figure in figures[system].items() if kind not in UNBOUNDED}
        assert shares.keys() >= {"plain", "repeat", "gender"}
        assert all(0 <= f["low"] <= f["value"] <= f["high"] <= 1 for f in shares.values())
        assert figures[system]["repeat_wer"]["value"] >= 0
        plain, errors = shares["plain"]["value"], figures[system]["repeat_wer"]["value"]
        sys.stdout.write(f"{system}: {plain:.1%} answered as the transcript, {errors:.1%} word errors\n")
    assert figures["text"]["plain"]["value"] == 1
    assert figures["stage1"]["repeat_wer"]["value"] < figures["untrained"]["repeat_wer"]["value"]


def test_the_package_hears_a_recording(digits: Path) -> None:
    result = run("chat", str(digits / "wavs/7_lucas_25.wav"), "", "--model", str(digits / "models/azeros"))
    assert result.exit_code == 0
    assert result.stdout.strip()
