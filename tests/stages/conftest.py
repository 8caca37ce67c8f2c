"""Every stage test works in a folder of its own, with an MLflow store that they share."""

import shutil
from pathlib import Path

import pytest

from azeros.params import load_params
from tests.small import FEW, write_params


@pytest.fixture(scope="session")
def tracking_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Making a store takes ten seconds, so the tests share one."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, tracking_store: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_store)
    return tmp_path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, tracking_store: str) -> Path:
    """A folder in which few utterances went through the stages up to two trained models."""
    from azeros.stages import prepare, sift, train

    folder = tmp_path_factory.mktemp("small")
    params = load_params(write_params(folder / "params.yaml", FEW))
    manifests, targets, models = Path("data/manifests"), Path("data/targets"), Path("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", tracking_store)
        prepare.run(params, "tiny", manifests / "tiny")
        for name, wanted in params.sift.sets.items():
            sift.run(params, name, manifests / "tiny", targets / wanted.mode / name)
        train.run(params, "stage1", manifests, targets / "sift_s", models / "stage1")
        train.run(params, "stage2", manifests, targets, models / "stage2")
    return folder


@pytest.fixture
def inputs(small: Path, here: Path) -> Path:
    """The working directory of the test, with settings, data, models and encoded speech of its own."""
    shutil.copy(small / "params.yaml", here)
    for name in ("data", "models", ".work/encoded"):
        shutil.copytree(small / name, here / name)
    return here
