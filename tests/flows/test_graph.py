"""Stages and parts of sets side by side, in the threads of one process or on workers of a Dask scheduler."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from azeros.work import is_running
from tests.conftest import ROOT
from tests.flows.test_pipeline import PATIENCE_S, environment_of, started, wait_until

# A corpus waits until the other one has begun. A part of a set keeps its answers in .work, and the stage gathers.
PREPARE = """
import pathlib, sys, time
name, other = sys.argv[1:]
pathlib.Path(f"{name}.begun").touch()
while not pathlib.Path(f"{other}.begun").exists():
    time.sleep(0.1)
pathlib.Path(name).write_text(name)
"""
SIFT = """
import os, pathlib, sys
output, _, shard = sys.argv[1:] if len(sys.argv) > 2 else (sys.argv[1], None, None)
if shard:
    pathlib.Path(f"part-{shard[0]}").write_text(f"{shard} on {os.environ['LOCAL_RANK']} by {os.getppid()}\\n")
else:
    parts = sorted(pathlib.Path().glob("part-*"))
    pathlib.Path(output).write_text("".join(part.read_text() for part in parts) + pathlib.Path("left").read_text())
"""
PIPELINE = """
stages:
  prepare:
    foreach: {left: right, right: left}
    do: {cmd: "python prepare.py ${key} ${item}", deps: [prepare.py], outs: ["${key}"]}
  sift@set: {cmd: python sift.py targets, deps: [left, right, sift.py], outs: [targets]}
"""

# Two that wait for each other, one that fails, and one that needs what failed.
APART = """
stages:
  evaluate:
    foreach:
      left: {needs: prepare.py, cmd: "python prepare.py left right; printenv LOCAL_RANK >> left"}
      right: {needs: prepare.py, cmd: "python prepare.py right left; printenv LOCAL_RANK >> right"}
      broken: {needs: prepare.py, cmd: "echo azeros: what is wrong; exit 3"}
      after: {needs: broken, cmd: touch after}
    do: {cmd: "${item.cmd}", deps: ["${item.needs}"], outs: ["${key}"]}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE.replace("sift@set:", "sift:\n    foreach: [set]\n    do:"))
    (tmp_path / "prepare.py").write_text(PREPARE)
    (tmp_path / "sift.py").write_text(SIFT)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    return tmp_path


def run_flow(name: str, folder: Path, **arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a flow in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", flow(name, **arguments)],
        cwd=folder, env=environment_of(folder), capture_output=True, text=True, timeout=2 * PATIENCE_S,
    )  # fmt: skip


def flow(name: str, **arguments: object) -> str:
    return f"""
from flows.pipeline import {name}, some_server
if __name__ == "__main__":
    with some_server():
        {name}(**{arguments!r})
"""


def is_done(stage: str) -> bool:
    """In a process of its own: DVC's logger keeps the stream that a test before had."""
    asked = f"from flows.graph import _is_done; raise SystemExit(0 if _is_done('{stage}') else 3)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    exit_code = subprocess.run([sys.executable, "-c", asked], env=environment).returncode
    assert exit_code in (0, 3)
    return exit_code == 0


@pytest.mark.slow
def test_corpora_and_parts_of_a_set_run_side_by_side(toy: Path) -> None:
    ended = run_flow("prepare_data", toy, workers=2)
    assert ended.returncode == 0, ended.stderr
    first, second, gathered = (toy / "targets").read_text().splitlines()
    assert first.startswith("1/2 on 0 by ")
    assert second.startswith("2/2 on 1 by ")
    assert gathered == "left"
    # The parts are not made again where DVC remembers what came of them.
    assert is_done("sift@set")
    (toy / "targets").unlink()
    assert is_done("sift@set")
    assert (toy / "targets").read_text().startswith(first)
    (toy / "left").write_text("changed")
    assert not is_done("sift@set")


@pytest.mark.slow
def test_what_does_not_need_a_failed_stage_goes_on(toy: Path) -> None:
    (toy / "dvc.yaml").write_text(APART)
    ended = run_flow("evaluate", toy, workers=2)
    assert "stage evaluate@broken failed (255): azeros: what is wrong" in ended.stderr
    assert "not begun, as they need what failed: evaluate@after" in ended.stderr
    assert ended.returncode != 0
    assert not (toy / "after").exists()
    ranks = {(toy / side).read_text().removeprefix(side).strip() for side in ("left", "right")}
    assert ranks == {"0", "1"}  # a GPU each


@pytest.mark.slow
def test_parts_run_on_two_workers_of_a_scheduler(toy: Path) -> None:
    cluster = pytest.importorskip("distributed").LocalCluster
    with cluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers:
        ended = run_flow("prepare_data", toy, workers=2, dask=workers.scheduler_address)
    assert ended.returncode == 0, ended.stderr
    *parts, gathered = (toy / "targets").read_text().splitlines()
    assert [part.split(" by ")[0] for part in parts] == ["1/2 on 0", "2/2 on 1"]
    assert gathered == "left"
    assert len({part.split(" by ")[1] for part in parts}) == 2


@pytest.mark.slow
def test_a_cancelled_flow_takes_all_that_runs_along(toy: Path) -> None:
    (toy / "prepare.py").write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1] + '.pid').write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-c", flow("prepare_data", workers=2)]
    with started(command, toy, environment_of(toy)) as running:
        wait_until(lambda: len([p for p in toy.glob("*.pid") if p.read_text()]) == 2, running)
        pids = [int(path.read_text()) for path in toy.glob("*.pid")]
        running.send_signal(signal.SIGTERM)
        output, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode != 0, output
    assert not any(is_running(pid) for pid in pids)
