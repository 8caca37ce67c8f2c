"""A bento stands alone: it is served from elsewhere, by its own copy of the code and the model."""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
import yaml

from azeros.model.speech_llm import AZerosModel
from azeros.work import hash_files
from tests.bento.test_service import Server, expected, heard, sent, serve, stop
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def start_build(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Build without a network: every proxy leads nowhere."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, "-m", "bento.build", *arguments],
        cwd=ROOT, env=os.environ | nowhere | {"BENTOML_HOME": str(home)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tiny_model: AZerosModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BentoML's store, with a bento of the tiny model; the model itself is gone."""
    folder = tmp_path_factory.mktemp("bentos")
    tiny_model.save_pretrained(folder / "model")
    (folder / "model/README.md").write_text("# where it came from\n")
    result = start_build(folder / "home", str(folder / "model"))
    assert result.returncode == 0, result.stderr
    shutil.rmtree(folder / "model")
    return folder / "home"


@pytest.fixture
def bento(home: Path) -> Path:
    (made,) = (path for path in (home / "bentos/azeros").iterdir() if path.is_dir())
    return made


@pytest.fixture
def bare_python(bento: Path, tmp_path: Path) -> Path:
    """A Python that has what the bento pins, as its image has, and nothing else of what is installed here."""
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    for line in (bento / "env/python/requirements.txt").read_text().split():
        pinned = distribution(line.partition("==")[0])
        for name in {file.parts[0] for file in pinned.files or ()} - {"..", "__pycache__"}:
            if not (packages / name).exists():  # opentelemetry is of several packages
                (packages / name).symlink_to(Path(str(pinned.locate_file(name))))
    return tmp_path / "venv/bin/python"


def test_it_answers_from_another_folder_with_its_pins_alone(
    home: Path, bare_python: Path, tiny_model: AZerosModel, tmp_path: Path
) -> None:
    server: Server = serve(
        tmp_path / "log", "azeros:latest",
        python=bare_python, folder=tmp_path, BENTOML_HOME=str(home), PYTHONPATH="",
    )  # fmt: skip
    try:
        answer = server.ask(sent(1), max_tokens=6, extra_body={"min_tokens": 6})
        assert answer.choices[0].message.content == expected(tiny_model, heard(1), 6)
    finally:
        stop(server.process)


def test_its_tag_leads_to_its_model(home: Path, bento: Path) -> None:
    asked = "from azeros.release import _folder_of; print(_folder_of('azeros:latest'))"
    found = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, env=os.environ | {"BENTOML_HOME": str(home)}, capture_output=True, text=True
    )  # fmt: skip
    assert Path(found.stdout.strip()) == bento, found.stderr


def test_it_pins_what_serving_needs_and_nothing_of_training(bento: Path) -> None:
    pinned = (bento / "env/python/requirements.txt").read_text().split()
    names = {line.partition("==")[0] for line in pinned}
    assert {"torch", "transformers", "bentoml", "soundfile", "lhotse"} <= names
    assert not names & {"mlflow", "dvc", "prefect", "pytest", "espeakng-loader"}
    assert not [line for line in pinned if "==" not in line or "+" in line]


def test_the_image_is_for_this_python_installs_the_pins_and_serves_as_no_root(bento: Path) -> None:
    lines = (bento / "env/docker/Dockerfile").read_text().splitlines()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert [line for line in lines if line.startswith("FROM")] == [
        f"FROM python:{python}-slim AS base-container"
    ]
    assert any("pip install -r $BENTO_PATH/env/python/requirements.txt" in line for line in lines)
    assert [line for line in lines if line.startswith("USER")] == ["USER bentoml"]
    assert "EXPOSE 3000" in lines
    # PyPI's torch brings CUDA; an index of one platform's builds would not.
    requirements = (bento / "env/python/requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}\n" in requirements
    assert "index-url" not in requirements
    # The last one replaces the shell, so that signals reach the service.
    assert 'exec bentoml "$@"' in (bento / "env/docker/entrypoint.sh").read_text()


def test_it_holds_model_card_and_labels_and_little_else(bento: Path) -> None:
    assert (bento / "src/models/azeros/README.md").read_text() == "# where it came from\n"
    assert {path.name for path in (bento / "src").iterdir()} <= {
        "azeros", "bento", "models", "pyproject.toml", "LICENSE", "bentofile.yaml",
    }  # fmt: skip
    assert not (bento / "src/azeros/tiny/weights").exists()
    labels = yaml.safe_load((bento / "bento.yaml").read_text())["labels"]
    packaged = (path for path in (bento / "src/models/azeros").iterdir() if path.name != "README.md")
    assert labels["model_sha256"] == hash_files(packaged)  # as MLflow has it
    assert "service_commit" in labels


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    result = start_build(tmp_path / "home", str(tmp_path))
    assert result.returncode == 1
    assert (
        result.stderr.strip().splitlines()[-1].startswith(f"bento.build: {tmp_path}: no packaged model there")
    )
    assert not list((ROOT / ".work").glob("bento-*"))
