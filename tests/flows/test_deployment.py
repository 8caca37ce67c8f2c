"""The whole flow as people start it: a deployment on a shrunken tiny world, killed twice, against an undisturbed `dvc repro`."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest

from azeros.overrides import override
from azeros.params import read_yaml
from azeros.work import is_running
from tests.conftest import ROOT
from tests.flows.test_pipeline import answers, environment_of, free_port, started, wait_until
from tests.small import FEW, digests

PATIENCE_S = 600  # for the stages before the first kill, on a busy machine
SETTINGS = FEW | {
    "benchmark.data.voicebench.num_rows": 2,
    "benchmark.data.airbench.num_rows": 2,
    "benchmark.sets.voicebench": ["bbh"],
    "benchmark.sets.airbench": ["foundation"],
}


def clone(folder: Path) -> Path:
    """What git would clone, had the working tree been committed; its settings are small, and committed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    override(folder / "params.yaml", SETTINGS)
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "small"]
    for arguments in (["init", "-q"], ["add", "-A"], commit):
        subprocess.run(["git", *arguments], check=True, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("disturbed") / "azeros")


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    plugin = {"PREFECT_PLUGINS_ENABLED": "true", "PREFECT_PLUGINS_ALLOW": "azeros"}
    address = {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"}
    here = {"PYTHONPATH": str(folder), "BENTOML_HOME": str(folder.parent / "bentoml")}
    return environment_of(folder.parent) | plugin | address | here


class Prefect:
    """A server, and what it knows."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.api = environment["PREFECT_API_URL"]

    def deployment(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "prefect", "deployment", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        ).stdout

    def worker(self) -> subprocess.Popen[str]:
        """`python -m flows.pipeline serve`, ready for runs."""
        with (self.folder.parent / "worker.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.pipeline", "serve"],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log, text=True,
            )  # fmt: skip
        wait_until(lambda: "train-azeros/local" in self.deployment("ls"), process)
        return process

    def states(self) -> dict[str, list[str]]:
        """Task -> its states in one flow run after the other."""
        found: dict[str, list[str]] = {}
        for run in self.ask("task_runs", sort="EXPECTED_START_TIME_ASC"):
            found.setdefault(run["name"], []).append(run["state_name"])
        return found

    def ask(self, what: str, **how: str) -> list[dict[str, Any]]:
        """All there is of something."""
        header = {"Content-Type": "application/json"}
        with urlopen(Request(f"{self.api}/{what}/filter", json.dumps(how).encode(), header)) as reply:
            found: list[dict[str, Any]] = json.load(reply)
            return found


@pytest.fixture(scope="module")
def prefect(folder: Path, environment: dict[str, str]) -> Iterator[Prefect]:
    port = environment["PREFECT_API_URL"].split(":")[-1].removesuffix("/api")
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", port]
    with started(command, folder, environment) as server:
        wait_until(lambda: answers(f"{environment['PREFECT_API_URL']}/health"), server)
        yield Prefect(folder, environment)


def trainer(folder: Path, stage: str) -> psutil.Process:
    """The process of a training stage, once it has saved its state."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if list((folder / ".work" / stage).glob("*/checkpoint.pt")):
            for process in psutil.process_iter(["cmdline", "cwd"]):
                words = process.info["cmdline"] or []
                if words[-5:-3] == ["train", stage] and process.info["cwd"] == str(folder):
                    return process
        time.sleep(0.01)
    raise AssertionError(f"{stage} did not begin: {(folder.parent / 'worker.log').read_text()}")


@pytest.mark.slow
def test_a_deployment_killed_twice_comes_to_the_models_of_an_undisturbed_run(
    folder: Path, prefect: Prefect, environment: dict[str, str], tmp_path: Path
) -> None:
    worker = prefect.worker()
    prefect.deployment("run", "train-azeros")
    trainer(folder, "stage1").kill()  # its task has another try
    stage = trainer(folder, "stage2")
    for process in [*psutil.Process(worker.pid).children(), psutil.Process(worker.pid)]:
        process.kill()  # the worker and its flow run; the stage has to end by itself
    worker.wait()
    deadline = time.monotonic() + PATIENCE_S
    while is_running(stage.pid):
        assert time.monotonic() < deadline, "the stage outlives its worker"
        time.sleep(0.1)
    assert not (folder / "models" / "stage2").exists()

    worker = prefect.worker()
    said = prefect.deployment("run", "train-azeros", "--watch")
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    assert "Completed" in said, (folder.parent / "worker.log").read_text()
    states = prefect.states()
    assert states["train@stage1"][-1] == states["sift@tiny_s"][-1] == "Cached"
    assert states["train@stage2"][-1] == states["release"][-1] == states["bento"][-1] == "Completed"
    reports = {"prepare-tiny-report", "card-data", "evaluate-report", "benchmark-leaderboard", "model-card"}
    assert reports <= {artifact["key"] for artifact in prefect.ask("artifacts")}
    # It is the first, so it is the champion, and what the bento holds.
    weights = "model.safetensors"
    (packaged,) = (folder.parent / "bentoml" / "bentos" / "azeros").glob(f"*/src/models/azeros/{weights}")
    for model in (folder / "models" / "azeros", folder / "releases" / "champion"):
        assert (model / weights).read_bytes() == packaged.read_bytes()

    undisturbed = clone(tmp_path / "azeros")
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "-q", "train@stage2"],
        cwd=undisturbed, env=environment | {"PYTHONPATH": str(undisturbed)}, check=True,
    )  # fmt: skip
    locked = [read_yaml(path / "dvc.lock")["stages"] for path in (folder, undisturbed)]
    stages = ("prepare@tiny", "sift@tiny_s", "sift@tiny_sit")
    assert [outs(locked[0], stage) for stage in stages] == [outs(locked[1], stage) for stage in stages]
    for stage in ("stage1", "stage2"):
        disturbed, whole = (digests(path / "models" / stage) for path in (folder, undisturbed))
        assert disturbed["projectors.safetensors"] == whole["projectors.safetensors"]


def outs(lock: dict[str, Any], stage: str) -> list[str]:
    return [out["md5"] for out in lock[stage]["outs"]]
