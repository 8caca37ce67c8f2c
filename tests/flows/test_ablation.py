"""Variants run as experiments of a real DVC repository, made for the test, whose `evaluate` measures its settings."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from azeros.errors import ParamsError, StageError
from azeros.params import load_params
from flows import ablation
from tests.conftest import ROOT

MEASURE = """
import json, pathlib
from azeros.params import load_params

train = load_params(pathlib.Path("params.yaml")).train
folder = pathlib.Path("reports/evaluate")
folder.mkdir(parents=True)
figure = {"low": 0.0, "high": 1.0, "count": 9}
stages = {name: {"plain": figure | {"value": getattr(train, name).num_steps / 10000}} for name in ("stage1", "stage2")}
(folder / "metrics.json").write_text(json.dumps(stages))
assert list(train.stage1.sets) == ["tiny_s"] or train.stage1.mode == "sit_s"
assert train.stage1.num_steps != 666, "diverged"
"""
VARIANTS = """
same: {}
short:
  train.stage1.num_steps: 200
  train.stage2.start_from: null
other:
  sift.sets.described: {corpus: tiny, split: train, mode: sit_s}
  train.stage1.mode: sit_s
  train.stage1.sets: {described: 1.0}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/ablation.yaml").write_text(VARIANTS)
    (tmp_path / "measure.py").write_text(MEASURE)
    (tmp_path / "dvc.yaml").write_text(
        "stages: {evaluate: {cmd: python measure.py, params: [train, sift], outs: [reports/evaluate]}}"
    )
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    dvc = [sys.executable, "-m", "dvc"]
    for command in ([*git, "init", "-q"], [*dvc, "init", "-q"], [*dvc, "repro", "-q"]):
        subprocess.run(command, check=True)
    (tmp_path / ".gitignore").write_text("/reports\n")
    for command in ([*git, "add", "."], [*git, "commit", "-qm", "toy"]):
        subprocess.run(command, check=True)
    return tmp_path


def run(name: str) -> None:
    from prefect.logging import disable_run_logger

    with disable_run_logger():
        ablation.run_variant.fn(name, ablation.read_variants([name])[name])


@pytest.mark.slow
def test_variants_are_measured_apart_and_the_workspace_stays(toy: Path) -> None:
    before = {name: (toy / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    found = {}
    for name in ("same", "short", "other", "short"):  # once more: the experiment of before gives way
        run(name)
        found[name] = ablation.read_figures(name)
    assert {name: (toy / name).read_bytes() for name in before} == before
    steps = load_params(toy / "params.yaml").train.stage1.num_steps
    assert found["same"]["stage1"]["plain"].value == found["other"]["stage1"]["plain"].value == steps / 10000
    assert found["short"]["stage1"]["plain"].value == 0.02
    report = ablation.to_report(found)
    assert "| | same | short | other | n |" in report
    assert report.count("2.0 [0.0, 100.0]") == 1
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "list", "--name-only"], capture_output=True, text=True
    )
    assert sorted(listed.stdout.split()) == ["ablation-other", "ablation-same", "ablation-short"]


@pytest.mark.slow
def test_a_variant_that_fails_says_why(toy: Path) -> None:
    (toy / "flows/ablation.yaml").write_text("bad: {train.stage1.num_steps: 666}")
    with pytest.raises(StageError, match=r"variant bad failed .*try: python -m flows\.ablation bad"):
        run("bad")


def test_what_is_wrong_with_a_variant_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/ablation.yaml").write_text("long: {train.stage1.num_steps: many}")
    with pytest.raises(ParamsError, match=r"flows/ablation\.yaml: long: .*train\.stage1\.num_steps"):
        ablation.read_variants()
    with pytest.raises(ParamsError, match="no variant 'short'; there are: long"):
        ablation.read_variants(["short"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flows", "params.yaml"]


def test_the_variants_of_the_project_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert list(ablation.read_variants()) == ["sift", "sit", "tsit", "one-stage"]


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 0.5, "word", "two words", 'a "quoted", {odd} one: 描述', [1, "a"], {"a": {"b": [None]}}],
)
def test_settings_reach_hydra_unchanged(value: object) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (change,) = OverridesParser.create().parse_overrides([f"++key={ablation.to_hydra(value)}"])
    assert json.loads(json.dumps(change.value())) == value
