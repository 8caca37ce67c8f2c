"""Figures that can be counted again from the stored answers, and the same ones after a kill."""

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from azeros.data.manifests import read_cuts
from tests.small import complaint, run, start

EVALUATE = ["evaluate", "data/manifests", "models", "reports/evaluate"]
SYSTEMS = ["text", "untrained", "stage1", "stage2"]

Row = dict[str, Any]


@pytest.fixture(scope="module")
def reports(small: Path, tracking_store: str) -> Path:
    """The report on the small models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(small)
        patch.setenv("MLFLOW_TRACKING_URI", tracking_store)
        result = run(*EVALUATE)
    assert result.exit_code == 0, result.stderr
    return small / "reports" / "evaluate"


def read_rows(reports: Path) -> list[Row]:
    return [json.loads(line) for line in (reports / "answers.jsonl").read_text().splitlines()]


def share(reports: Path, system: str, kind: str) -> tuple[float, int]:
    figure = json.loads((reports / "metrics.json").read_text())[system][kind]
    assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    return figure["value"], figure["count"]


def test_a_report_has_figures_answers_and_plots_of_every_system(reports: Path) -> None:
    assert json.loads((reports / "metrics.json").read_text()).keys() >= set(SYSTEMS)
    assert all(system in (reports / "report.md").read_text() for system in SYSTEMS)
    plots = re.findall(r"!\[.*?\]\((.+?)\)", (reports / "report.md").read_text())
    assert plots
    assert all((reports / plot).stat().st_size > 1000 for plot in plots)


def test_each_ask_has_its_row(reports: Path, small: Path) -> None:
    expected = []
    for cut in read_cuts(small / "data/manifests/tiny/cuts_test.jsonl.gz"):
        questions = cut.supervisions[0].custom["questions"]
        kinds = ["plain", "repeat", "gender", "age", "emotion", *(q["kind"] for q in questions)]
        expected += [(cut.id, kind) for kind in kinds]
    rows = read_rows(reports)
    assert [(row["cut"], row["kind"]) for row in rows] == expected
    assert all(isinstance(row[system], str) for row in rows for system in SYSTEMS)


@pytest.mark.parametrize("system", SYSTEMS)
def test_figures_can_be_counted_again_from_the_answers(reports: Path, system: str) -> None:
    rows = read_rows(reports)
    plain = [row[system].strip() == row["text"].strip() for row in rows if row["kind"] == "plain"]
    assert share(reports, system, "plain") == (sum(plain) / 10, 10)
    said = [(set(re.findall("[a-z]+", row[system])), row["right"]) for row in rows if row["kind"] == "gender"]
    hits = sum(words & {"male", "female"} == {right} for words, right in said)
    assert share(reports, system, "gender") == (hits / 10, 10)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_figures(reports: Path, inputs: Path) -> None:
    shutil.rmtree(".work")
    process = start(*EVALUATE)
    assert process.stderr is not None
    seen = next((line for line in process.stderr if line.startswith("evaluate untrained")), None)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert seen
    assert process.returncode == -signal.SIGKILL
    assert not Path("reports/evaluate").exists()
    assert run(*EVALUATE).exit_code == 0
    again = Path("reports/evaluate/metrics.json").read_bytes()
    assert again == (reports / "metrics.json").read_bytes()


def test_a_missing_model_is_named(inputs: Path) -> None:
    shutil.rmtree("models/stage2")
    result = run(*EVALUATE)
    assert result.exit_code == 1
    assert "models/stage2/projectors.safetensors: no projectors there" in complaint(result.stderr)


def test_a_stage_1_model_in_the_place_of_stage_2_is_refused(inputs: Path) -> None:
    shutil.copy("models/stage1/projectors.safetensors", "models/stage2/projectors.safetensors")
    result = run(*EVALUATE)
    assert result.exit_code == 1
    assert "models/stage2/projectors.safetensors: no paralinguistic projector" in complaint(result.stderr)


def test_lost_audio_is_named(inputs: Path) -> None:
    shutil.rmtree(".work")
    lost = Path("data/manifests/tiny/audio/test-00003.flac")
    lost.unlink()
    result = run(*EVALUATE)
    assert result.exit_code == 1
    assert f"cut test-00003: {lost}: missing" in complaint(result.stderr)
    assert not Path("reports/evaluate").exists()
