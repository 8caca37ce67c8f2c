"""Candidates are registered, compared with the champion, and promoted only if they win and could be made again."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from azeros import release
from azeros.errors import StageError
from azeros.params import Params, Pretrained, load_params
from azeros.registry import Registry
from azeros.tracking import MODEL_TAG, PARENT_VARIABLE, stage_run
from azeros.work import hash_files
from tests.conftest import ROOT

PIPELINE = """
stages:
  data:
    cmd: mkdir -p data/manifests && cp source data/manifests/tiny && cp source data/manifests/mine
    deps: [source]
    outs: [data/manifests/tiny, data/manifests/mine]
  evaluate: {cmd: mkdir -p reports && cp -r measured reports/evaluate, deps: [measured], outs: [reports/evaluate]}
  package: {cmd: mkdir -p models && cp -r trained models/azeros, deps: [trained], outs: [models/azeros]}
"""


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "count": 400}


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose pipeline copies a model, its figures and its data; and an MLflow store: both take seconds."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("origin")
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    (folder / "dvc.yaml").write_text(PIPELINE)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True, cwd=folder)
    (folder / ".gitignore").write_text("/data\n/models\n/reports\n/releases\n/mlflow.db*\n/mlruns\n.work\n")
    return folder


@pytest.fixture
def repository(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository"
    shutil.copytree(origin, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return folder


def make(value: float, weights: str, data: str = "speech", commit: bool = True) -> None:
    """Run the pipeline, so that it makes a model with that figure."""
    Path("source").write_text(data)
    Path("measured").mkdir(exist_ok=True)
    Path("trained").mkdir(exist_ok=True)
    (Path("measured") / "metrics.json").write_text(json.dumps({"stage2": {"plain": figure(value)}}))
    (Path("trained") / "model.safetensors").write_text(weights)
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    if commit:
        subprocess.run(["git", "add", "-A"], check=True)
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, "commit", "-qm", "a run"], check=True)


@pytest.mark.slow
def test_the_better_model_becomes_the_champion(
    repository: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(0.7, "first")
    monkeypatch.setenv(PARENT_VARIABLE, "prefect:abc")
    with stage_run("package", {}) as packaged:  # as the stage does
        packaged.set_tag(MODEL_TAG, hash_files(Path("models/azeros").iterdir()))
    assert release.run(params) == release.Outcome(1, True, "it is the first")
    make(0.72, "second")
    outcome = release.run(params)
    assert (outcome.version, outcome.promoted) == (2, False)
    assert "stage2 plain 0.720 [0.670, 0.770] against 0.700: not better beyond" in outcome.reason
    assert release.CHAMPION_LINK.resolve().joinpath("model.safetensors").read_text() == "first"
    make(0.9, "third")
    assert release.run(params).promoted
    assert release.CHAMPION_LINK.resolve().joinpath("model.safetensors").read_text() == "third"
    card = (release.CHAMPION_LINK / "README.md").read_text()
    assert "| plain | 90.0 [85.0, 95.0] |  | 400 |" in card
    assert Path("reports/model_card.md").read_text() == card
    assert release.run(params) == release.Outcome(3, False, "it is the champion already")

    record = release.find(params, "champion").record
    assert record["data"] == {"data/manifests/tiny": record["outs"]["data/manifests/mine"]}  # which is a copy
    states = {what: state for what, _, state in release.lineage(params, "champion")}
    assert states["version 3"] == states["models/azeros"] == states["git commit"] == "here"
    assert release.find(params, "models/azeros").number == 3
    Path("bento/src/models").mkdir(parents=True)
    Path("bento/src/models/azeros").symlink_to(release.find(params, "1").folder)  # with its card
    assert release.find(params, "bento").number == 1
    manifest = Path("data/manifests/tiny")
    manifest.unlink()
    manifest.write_text("other speech")
    states = {what: state for what, _, state in release.lineage(params, "champion")}
    assert (states["data/manifests/tiny"], states["data/manifests/mine"]) == ("changed", "here")
    assert states["corpus tiny"] == ""
    first = {what: (identity, state) for what, identity, state in release.lineage(params, "1")}
    assert first["models/azeros"][1] == "changed"
    assert first["MLflow run"] == (packaged.id, "here")
    assert first["MLflow pipeline run"][1] == "here"
    assert first["started as"] == ("prefect:abc", "")
    assert packaged.id is not None
    assert {release.find(params, run).number for run in (packaged.id, "prefect:abc", "abc")} == {1}
    assert "MLflow run" not in states  # of the third nobody kept a run

    assert release.promote(params, 1).name == release.CHAMPION_LINK.resolve().name
    assert release.CHAMPION_LINK.resolve().joinpath("model.safetensors").read_text() == "first"
    assert release.find(params, "champion").number == 1
    (release.find(params, "2").folder / "model.safetensors").unlink()
    with pytest.raises(StageError, match="version 2 is gone or was changed"):
        release.promote(params, 2)
    with pytest.raises(StageError, match="no version 9 of azeros is registered; there are: 1, 2, 3"):
        release.lineage(params, "9")
    with pytest.raises(StageError, match="azeros:none: no such bento"):
        release.lineage(params, "azeros:none")


@pytest.mark.slow
def test_a_clone_without_releases_makes_the_champion_again_of_the_packaged_model(
    repository: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = Pretrained(path="Qwen/Qwen2.5-7B-Instruct", revision="abc")
    foundation = params.foundation.model_copy(update={"llm": llm})
    params = params.model_copy(update={"foundation": foundation})
    make(0.7, "first")
    assert release.run(params).promoted
    clone = repository.rename(repository.with_name("clone"))
    monkeypatch.chdir(clone)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{clone}/mlflow.db")
    for restore in (lambda: release.run(params), lambda: release.promote(params, 1)):
        shutil.rmtree("releases")
        restore()
        assert release.CHAMPION_LINK.joinpath("model.safetensors").read_text() == "first"
    states = {what: state for what, _, state in release.lineage(params, "champion")}
    assert (states["version 1"], states["llm"]) == ("here", "pinned by its revision")

    Path("measured/new.py").write_text("what nobody has committed")
    make(0.9, "first", commit=False)
    assert "measured/new.py" in release.run(params).reason

    registry = Registry(params.release.model)
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("ALTER TABLE model_versions RENAME TO gone")
    with pytest.raises(StageError, match="MLflow's registry is out of reach"):
        registry.versions()
    Path("mlflow.db").write_text("not a database" * 100)
    with pytest.raises(StageError, match="not a database"):
        release.lineage(params, "champion")


@pytest.mark.slow
def test_a_model_that_could_not_be_made_again_is_registered_and_not_promoted(
    repository: Path, params: Params
) -> None:
    make(0.7, "first")
    Path("source").write_text("other speech")
    (Path("dvc.yaml")).write_text(PIPELINE + "\n")
    outcome = release.run(params)
    assert (outcome.version, outcome.promoted) == (1, False)
    assert "uncommitted changes in dvc.yaml, source" in outcome.reason
    assert "the pipeline is not up to date (data): run dvc repro" in outcome.reason
    assert not release.CHAMPION_LINK.exists()


BASE: dict[str, Any] = {
    "problems": [],
    "metric": "stage2 plain",
    "data": {"data/manifests/one": "1"},
    "asked": {"max_new_tokens": 48},
    "foundation": {"llm": {"path": "a", "revision": None}, "speech_encoder": {"path": "b", "revision": None}},
}


def test_decisions() -> None:
    champion = BASE | {"figure": figure(0.8)}
    assert release.decide(BASE | {"figure": figure(0.86)}, champion)[0]
    assert not release.decide(BASE | {"figure": figure(0.84)}, champion)[0]
    assert not release.decide(BASE | {"figure": figure(0.7)}, champion)[0]
    assert not release.decide(BASE | {"figure": figure(0.99), "problems": ["uncommitted"]}, None)[0]


@pytest.mark.parametrize("metric", ["repeat_wer", "gap_divergence"])
def test_of_errors_fewer_are_better(metric: str) -> None:
    base = BASE | {"metric": f"stage2 {metric}"}
    champion = base | {"figure": figure(0.2)}
    assert release.decide(base | {"figure": figure(0.14)}, champion)[0]
    assert not release.decide(base | {"figure": figure(0.16)}, champion)[0]
    assert not release.decide(base | {"figure": figure(0.9)}, champion)[0]


@pytest.mark.parametrize(
    ("other", "how"),
    [
        ({"metric": "stage2 repeat"}, "by another metric"),
        ({"data": {"data/manifests/one": "2"}}, "on other data"),
        ({"data": {"data/manifests/one": "1", "data/manifests/two": "2"}}, "on other data"),
        ({"asked": {"max_new_tokens": 4}}, "with other settings of evaluate"),
        ({"foundation": {"llm": {"path": "other", "revision": None}}}, "by another language model"),
        ({"foundation": {"llm": {"path": "a", "revision": "2"}}}, "by another language model"),
    ],
)
def test_figures_that_were_measured_otherwise_decide_nothing(other: dict[str, Any], how: str) -> None:
    assert release.decide(BASE | {"figure": figure(0.99)} | other, BASE | {"figure": figure(0.8)}) == (
        False,
        f"the champion was measured {how}: evaluate both alike, or promote by hand",
    )


def test_other_encoders_and_training_corpora_compete() -> None:
    encoder = {"llm": {"path": "a", "revision": None}, "speech_encoder": {"path": "c", "revision": None}}
    ours = BASE | {"figure": figure(0.99), "foundation": encoder, "outs": {"data/manifests/new": "3"}}
    assert release.decide(ours, BASE | {"figure": figure(0.8)})[0]


def test_what_is_missing_is_named(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match="models/azeros: not there: run `dvc repro` first"):
        release.run(params)
    Path("models/azeros").mkdir(parents=True)
    Path("reports/evaluate").mkdir(parents=True)
    Path("reports/evaluate/metrics.json").write_text(json.dumps({"stage1": {"topic": figure(0.5)}}))
    with pytest.raises(
        StageError, match=r"no plain of stage2 for params\.yaml, release; there are stage1: topic"
    ):
        release.run(params)


def test_the_card_is_valid_front_matter() -> None:
    record = {
        "figures": {"plain": figure(0.5), "gap": figure(0.25), "gap_divergence": figure(0.06)},
        "ceiling": {"plain": figure(1.0)},
        "heard": {"corpora": ["mine"], "languages": ["en", "zh"]},
        "foundation": {
            "llm": {"path": "Qwen/Qwen2.5-7B-Instruct", "revision": "abc"},
            "paraling_encoder": None,
        },
        "corpora": {"mine": "folder", "iemocap": "iemocap"},
        "runs": {"MLflow run": "1f"},
        "outs": {"models/azeros": "0.dir"},
        "commit": "123",
        "problems": ["uncommitted changes in a"],
    }
    _, front, body = release.card(record).split("---\n", 2)
    assert YAML(typ="safe").load(front) == {"library_name": "azeros", "pipeline_tag": "audio-text-to-text"}
    assert "| plain | 50.0 [45.0, 55.0] | 100.0 [95.0, 105.0] | 400 |" in body
    assert "| gap | 25.0 [20.0, 30.0] |  | 400 |" in body
    assert "gap_divergence" not in body
    assert "recordings of mine, questions in en, zh" in body
    assert "- llm: `Qwen/Qwen2.5-7B-Instruct abc`" in body
    assert "MLflow run `1f`." in body
    assert "- mine: your own recordings, yours" in body
    assert "Not for commercial use: IEMOCAP." in body
    assert "Not reproducible: uncommitted changes in a." in body
