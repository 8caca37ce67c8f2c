"""The flow runs the stages of a real DVC repository, made for the test, and takes its order from it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from azeros.errors import StageError
from azeros.params import load_params
from azeros.work import is_running
from flows import pipeline
from flows.graph import read_stages
from flows.stages import PARENT_VARIABLE, _is_killed, _process_group, run_stage
from tests.conftest import ROOT
from tests.test_architecture import CARD, STAGES

PATIENCE_S = 240  # Prefect's private server starts in 20 s, on a busy machine in minutes

PIPELINE = """
stages:
  a_last: {cmd: cat left right > last, deps: [left, right], outs: [last]}
  side:
    foreach: [right, left]
    do: {cmd: "cat source > ${item}", deps: [source], outs: ["${item}"]}
  z_broken: {cmd: "echo 'azeros: what is wrong' >&2; exit 3", deps: [last]}
  parent: {cmd: printenv AZEROS_PARENT_RUN > name, outs: [name]}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    from prefect.logging import disable_run_logger

    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "source").write_text("1")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    with disable_run_logger():
        yield tmp_path


def run(stage: str) -> str | None:
    return run_stage.fn(stage, pipeline="a run", device=0).name


def test_stages_come_after_what_they_depend_on(toy: Path) -> None:
    sides = {"side@left", "side@right"}
    needs = {
        "parent": set(),
        "side@left": set(),
        "side@right": set(),
        "a_last": sides,
        "z_broken": {"a_last"},
    }
    assert list(read_stages().items()) == list(needs.items())


def test_the_flow_runs_the_stages_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = [stage.partition("@")[0] for stage in read_stages()]
    assert set(words) == {*STAGES, CARD}
    assert words.index("prepare") < words.index(CARD) < words.index("sift")
    assert words.index("prepare") < words.index("sift") < words.index("train") < words.index("package")


@pytest.mark.parametrize("argument", [[], ["serve"]])
def test_a_folder_without_a_pipeline_is_one_line(tmp_path: Path, argument: list[str]) -> None:
    command = [sys.executable, "-m", "flows.pipeline", *argument]
    shutil.copy(ROOT / "params.yaml", tmp_path)
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment_of(tmp_path), capture_output=True, text=True
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        f"flows.pipeline: no pipeline in {tmp_path}: you are not inside of a DVC repository"
    )


def test_a_stage_runs_once_and_is_then_cached(toy: Path) -> None:
    assert run("side@left") == "Completed"
    assert (toy / "left").read_text() == "1"
    assert run("side@left") == "Cached"


def test_a_result_that_dvc_remembers_is_cached(toy: Path) -> None:
    assert run("side@left") == "Completed"
    (toy / "source").write_text("2")
    assert run("side@left") == "Completed"
    (toy / "source").write_text("1")
    assert run("side@left") == "Cached"
    assert (toy / "left").read_text() == "1"


def test_a_failed_stage_says_why(toy: Path) -> None:
    (toy / "last").touch()
    with pytest.raises(StageError, match=r"stage z_broken failed .*azeros: what is wrong.*; try: dvc repro"):
        run("z_broken")


def test_a_stage_learns_its_pipeline_run(toy: Path) -> None:
    run("parent")
    assert (toy / "name").read_text() == "a run\n"
    assert PARENT_VARIABLE == "AZEROS_PARENT_RUN"


def test_stages_know_that_variable_too() -> None:
    from azeros import tracking

    assert tracking.PARENT_VARIABLE == PARENT_VARIABLE


def test_a_cancelled_stage_leaves_no_process(tmp_path: Path) -> None:
    command = ["sh", "-c", f"sleep 60 & echo $!; trap '' INT; touch {tmp_path}/started; wait"]
    grandchild = 0
    with pytest.raises(KeyboardInterrupt), _process_group(command, {}) as process:  # noqa: PT012
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        raise KeyboardInterrupt
    assert process.returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(grandchild, 0)


@pytest.mark.slow
def test_a_cancelled_flow_takes_its_stage_along(toy: Path) -> None:
    (toy / "dvc.yaml").write_text("stages: {wait: {cmd: 'echo $$ > pid; exec sleep 600', outs: [pid]}}")
    with started_flow(toy) as flow:
        deadline = time.monotonic() + PATIENCE_S
        while not (toy / "pid").exists():
            assert time.monotonic() < deadline
            assert flow.poll() is None
            time.sleep(0.1)
        servers = psutil.Process(flow.pid).children()
        flow.terminate()
        output, _ = flow.communicate(timeout=PATIENCE_S)
    assert flow.returncode != 0, output
    assert not is_running(int((toy / "pid").read_text()))
    assert not [server for server in servers if server.is_running()]


@pytest.mark.slow
def test_a_killed_flow_leaves_no_stage_behind_and_another_goes_on(toy: Path) -> None:
    (toy / "count.py").write_text(
        "import os, pathlib, sys, time\n"
        "from azeros.work import die_with_parent\n"
        "die_with_parent()  # as every stage of azeros does\n"
        "pathlib.Path('pids').write_text(f'{os.getpid()} {os.getppid()}')\n"  # its own and DVC's
        "saved = pathlib.Path('saved')\n"
        "for number in range(len(saved.read_text()) if saved.exists() else 0, 3):\n"
        "    saved.write_text('x' * (number + 1))\n"
        "    while number == 1 and not pathlib.Path('killed').exists():\n"
        "        time.sleep(0.05)\n"
        "pathlib.Path('counted').write_text(saved.read_text() + '!')\n"
    )
    (toy / "dvc.yaml").write_text(
        "stages: {count: {cmd: exec python count.py, deps: [count.py], outs: [counted]}}"
    )
    with started_flow(toy) as flow:
        wait_until(lambda: (toy / "saved").exists() and (toy / "saved").read_text() == "xx", flow)
        servers = [
            child for child in psutil.Process(flow.pid).children() if "prefect" in str(child.cmdline())
        ]
        flow.kill()
        flow.wait()
        for server in servers:  # which Prefect started for this run, and nothing tells to end
            server.terminate()
    pids = [int(pid) for pid in (toy / "pids").read_text().split()]
    deadline = time.monotonic() + PATIENCE_S
    while any(map(psutil.pid_exists, pids)):  # a DVC that init has yet to collect would still hold its lock
        assert time.monotonic() < deadline, "the stage outlives its flow"
        time.sleep(0.1)
    assert not (toy / "counted").exists()
    (toy / "killed").touch()
    assert run("count") == "Completed"
    assert (toy / "counted").read_text() == "xxx!"


@pytest.mark.slow
def test_a_killed_stage_has_another_try_and_a_failed_one_has_not(toy: Path) -> None:
    (toy / "twice.sh").write_text(
        "echo >> tries; test -e saved && cp saved out || { touch saved; kill -9 $$; }"
    )
    (toy / "wrong.sh").write_text("echo >> failures; exit 1")
    (toy / "dvc.yaml").write_text(
        "stages:\n  killed: {cmd: exec sh twice.sh, outs: [out]}\n  wrong: {cmd: sh wrong.sh, deps: [out]}\n"
    )
    with started_flow(toy) as flow:
        output, _ = flow.communicate(timeout=PATIENCE_S)
    assert "stage wrong failed" in output
    assert (toy / "out").exists()
    assert (toy / "tries").read_text() == "\n\n"
    assert (toy / "failures").read_text() == "\n"


@pytest.mark.parametrize(
    ("exit_code", "said", "killed"),
    [
        (255, "failed to run: azeros train, exited with -9", True),
        (255, "failed to run: azeros train, exited with 137", True),
        (-signal.SIGSEGV, "", True),
        (255, "failed to run: azeros train, exited with 1", False),
        (255, "failed to run: azeros train, exited with -15", False),
        (255, "'./dvc.yaml' is invalid", False),
        (130, "azeros: interrupted", False),
    ],
)
def test_death_by_a_signal_is_told_from_failure(exit_code: int, said: str, killed: bool) -> None:
    assert _is_killed(exit_code, said) == killed


@pytest.mark.parametrize("promoted", [True, False])
def test_a_new_champion_is_packaged(promoted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged: list[bool] = []
    monkeypatch.setattr(pipeline, "release_model", lambda: promoted)
    monkeypatch.setattr(pipeline, "build_bento", lambda: packaged.append(True))
    pipeline.release_and_package()
    assert bool(packaged) == promoted


@pytest.mark.slow
def test_the_bento_is_one_of_the_champion(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    missing = r"the bento of the champion failed \(1\): .*releases/champion: no packaged model"
    with pytest.raises(StageError, match=missing):
        pipeline.build_bento.fn()


@pytest.fixture
def releasable(toy: Path) -> Path:
    """The toy with what a release takes: settings, a packaged model and its figures."""
    figure = {"value": 0.7, "low": 0.6, "high": 0.8, "count": 9}
    (toy / "measured.json").write_text(json.dumps({"stage2": {"plain": figure}}))
    (toy / "dvc.yaml").write_text(
        PIPELINE.replace("exit 3", "exit 0")
        + """
  evaluate: {cmd: "mkdir -p reports/evaluate; cp measured.json reports/evaluate/metrics.json", outs: [reports/evaluate]}
  settings: {cmd: cp params.yaml settings, deps: [params.yaml], outs: [settings]}
  package: {cmd: "mkdir -p models/azeros; cp last models/azeros/weights", deps: [last], outs: [models/azeros]}
"""
    )
    shutil.copy(ROOT / "params.yaml", toy)
    return toy


@pytest.mark.slow
def test_the_flow_runs_without_a_server(releasable: Path) -> None:
    with started_flow(releasable) as flow:
        output, _ = flow.communicate(timeout=PATIENCE_S)
    assert flow.returncode == 0, output
    assert (releasable / "last").read_text() == "11"
    assert (releasable / "name").read_text().startswith("prefect:")
    assert "version 1 was not promoted: its origin is not complete: there is no git commit" in output
    assert len(list((releasable / "releases").glob("*/weights"))) == 1


@pytest.mark.slow
def test_a_deployment_runs_by_the_name_of_its_flow_and_can_be_cancelled(releasable: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    environment = environment_of(releasable) | {"PREFECT_API_URL": address}
    environment |= {"PREFECT_PLUGINS_ENABLED": "true", "PREFECT_PLUGINS_ALLOW": "azeros"}
    prefect = [sys.executable, "-m", "prefect"]

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*prefect, "deployment", *arguments]
        return subprocess.run(command, cwd=releasable, env=environment, capture_output=True, text=True)

    with started([*prefect, "server", "start", "--port", str(port)], releasable, environment) as server:
        wait_until(lambda: answers(f"{address}/health"), server)
        with started([sys.executable, "-m", "flows.pipeline", "serve"], releasable, environment) as served:
            wait_until(lambda: "train-azeros/local" in ask("ls").stdout, served)
            assert "flows/paper.yaml" in ask("inspect", "train-azeros/paper").stdout
            found = ask("run", "train-azeros", "-p", 'overrides=["seed=2"]', "--watch")
            waits = "stages: {wait: {cmd: 'echo $$ > pid; exec sleep 600', outs: [out]}}"
            (releasable / "dvc.yaml").write_text(waits)
            (run_id,) = re.findall(r"UUID: (\S+)", ask("run", "train-azeros").stdout)
            wait_until(lambda: (pid := releasable / "pid").exists() and pid.read_text() != "", served)
            cancel = [*prefect, "flow-run", "cancel", run_id]
            subprocess.run(cancel, cwd=releasable, env=environment, check=True, capture_output=True)
            wait_until(lambda: not is_running(int((releasable / "pid").read_text())), served)
    assert "Completed" in found.stdout, found.stdout
    assert (releasable / "last").read_text() == "11"
    assert load_params(releasable / "settings").seed == 2
    assert (releasable / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


@pytest.mark.slow
def test_a_run_outlives_its_server(releasable: Path) -> None:
    stages = (releasable / "dvc.yaml").read_text()
    waits = "until test -e killed; do sleep 0.1; done"
    (releasable / "dvc.yaml").write_text(
        stages.replace("cmd: cat left", f"cmd: touch begun; {waits}; cat left")
    )
    port = free_port()
    environment = environment_of(releasable) | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    server_command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with started(server_command, releasable, environment) as server:
        wait_until(lambda: answers(f"{environment['PREFECT_API_URL']}/health"), server)
        with started([sys.executable, "-m", "flows.pipeline"], releasable, environment) as flow:
            wait_until((releasable / "begun").exists, flow)
            server.kill()
            (releasable / "killed").touch()
            wait_until(lambda: list((releasable / "releases").glob("*/weights")) != [], flow)
            flow.kill()  # it would try for minutes to tell the server
    assert (releasable / "last").read_text() == "11"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: str) -> bool:
    try:
        urlopen(address, timeout=3).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.5)


@contextmanager
def started_flow(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m flows.pipeline` in a folder, out of reach of any Prefect server."""
    with started([sys.executable, "-m", "flows.pipeline"], folder, environment_of(folder)) as flow:
        yield flow


def environment_of(folder: Path) -> dict[str, str]:
    """Out of reach of any Prefect server, with the shell of a bare container, which may stay above what it runs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder / ".prefect")}
    environment["SHELL"] = "/bin/sh"
    return environment | {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }


@contextmanager
def started(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.stdout is not None
            process.stdout.close()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
