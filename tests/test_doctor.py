"""`azeros doctor` finds what is there, and names what was taken away."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from azeros.doctor import examine
from azeros.params import load_params
from azeros.tiny import speech
from tests import small
from tests.small import complaint, write_params


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the repository's settings, DVC, and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    subprocess.run(["dvc", "init", "--no-scm", "--quiet"], check=True)
    write_params(tmp_path / "params.yaml", {})
    return tmp_path


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that is healthy."""

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Healthy) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/api"
        http.shutdown()


def test_what_is_there_is_found(folder: Path, server: str) -> None:
    (folder / "remote").mkdir()
    subprocess.run(["dvc", "remote", "add", "--default", "near", "remote"], check=True, capture_output=True)
    with temporary_settings({PREFECT_API_URL: server}):
        findings = {finding.check: finding for finding in examine(load_params(folder / "params.yaml"))}
    assert not [finding for finding in findings.values() if finding.status == "missing"]
    assert {findings[name].status for name in ("espeak-ng", "FFmpeg", "DVC remote", "MLflow", "Prefect")} == {
        "ok"
    }
    assert findings["DVC remote"].message == f"near at {folder / 'remote'}"
    assert findings["hub"].message.startswith("HF_HUB_OFFLINE is set (needed for")


def test_what_is_missing_is_named_with_what_needs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///dev/null/nowhere")
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    speech._load.cache_clear()
    gone = {"recipe": "folder", "path": "gone/airbench", "partial": False}
    lacking = {"foundation.llm.path": "nobody/no-such-model", "benchmark.data.airbench": gone}
    write_params(folder / "params.yaml", lacking)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        result = small.run("doctor")
    assert (result.exit_code, complaint(result.stderr)) == (1, "azeros: 4 missing; see above")
    lines = result.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("missing")] == [
        "commands",
        "espeak-ng",
        "data",
        "hub",
    ]
    for name, words in {
        "commands": "azeros, dvc not on PATH: source .venv/bin/activate",
        "espeak-ng": "the speech of the tiny world",
        "data": "nothing at benchmark.data.airbench: gone/airbench",
        "DVC remote": "dvc remote add",
        "MLflow": "azeros release",
        "Prefect": "prefect server start",
    }.items():
        (line,) = (line for line in lines if line[9:].startswith(name))
        assert line.startswith(("missing", "absent"))
        assert words in line


def test_a_package_too_old_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda _: ["numpy>=99", "nothing-like-it; extra == 'train'"]
    )
    findings = {finding.check: finding for finding in examine(load_params(folder / "params.yaml"))}
    assert findings["packages"].status == "missing"
    assert findings["packages"].message.startswith("numpy>=99, nothing-like-it not installed: make setup")
