"""The stages of dvc.yaml as Prefect flows, one task a stage, in the order that DVC's graph gives.

python -m flows.pipeline         run now, with or without a Prefect server
python -m flows.pipeline serve   wait for `prefect deployment run train-azeros`, and for those of its parts
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from prefect import flow, get_run_logger, serve, task
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed

from azeros.errors import AzerosError, StageError
from azeros.overrides import override, read_overrides
from azeros.params import load_params
from flows.plugin import DEFAULT_DEPLOYMENT

PARAMS = Path("params.yaml")
PARENT_VARIABLE = "AZEROS_PARENT_RUN"  # under this name the stages find their MLflow parent run
_GRACE_S = 10.0  # for a cancelled stage to tidy up
_SERVER_TIMEOUT_S = 3.0


@flow(name="train-azeros")
def train_azeros(overrides: Sequence[str] = ()) -> None:
    """Bring every stage of dvc.yaml up to date and release the model.

    Args:
        overrides: settings to write into params.yaml first, like `train.stage1.num_steps=500`, and files of such
            settings, like `flows/paper.yaml`.
    """
    change_settings(overrides)
    _run_stages(stages_in_order())
    release_model()


@flow(name="prepare-data")
def prepare_data(overrides: Sequence[str] = ()) -> None:
    """Make the manifests of every corpus, and the targets of every set."""
    change_settings(overrides)
    _run_stages(stage for stage in stages_in_order() if _word(stage) in ("prepare", "sift"))


@flow(name="evaluate")
def evaluate(overrides: Sequence[str] = ()) -> None:
    """Evaluate the models that are there, and put them to the benchmarks."""
    change_settings(overrides)
    _run_stages(stage for stage in stages_in_order() if _word(stage) in ("evaluate", "benchmark"))


@flow(name="release")
def release() -> None:
    """Register the packaged model; it becomes the champion if it wins."""
    release_model()


def change_settings(overrides: Sequence[str]) -> None:
    """Write overrides into params.yaml, where `git diff` shows them; Prefect keeps them with the run."""
    if overrides:
        override(PARAMS, read_overrides(overrides))
        get_run_logger().info("params.yaml now has %s", ", ".join(overrides))


@task(name="release")
def release_model() -> None:
    """Register the packaged model and say what became of it."""
    from azeros import release as releases

    outcome = releases.run(load_params(PARAMS))
    became = "is now the champion" if outcome.promoted else "was not promoted"
    get_run_logger().info("version %d %s: %s", outcome.version, became, outcome.reason)


def _run_stages(stages: Iterable[str]) -> None:
    for stage in stages:
        # Called, not submitted: a submitted task would hold up a cancel until its stage had ended.
        run_stage.with_options(name=_word(stage), task_run_name=stage)(
            stage, pipeline=f"prefect:{flow_run.id}"
        )


def _word(stage: str) -> str:
    return stage.partition("@")[0]


def stages_in_order() -> list[str]:
    """Addresses of all stages (`sift@tiny_s`), each after those it depends on, always in the same order."""
    import networkx as nx
    from dvc.repo import Repo

    with Repo() as repo:
        graph = repo.index.graph.reverse()  # DVC's edges lead from a stage to its dependencies
        order = nx.lexicographical_topological_sort(graph, key=lambda stage: stage.addressing)
        return [stage.addressing for stage in order if stage.cmd]


@task
def run_stage(stage: str, pipeline: str) -> State[None]:
    """Have DVC bring one stage up to date; the state is named `Cached` if there was nothing to do.

    Raises StageError if the stage fails. A cancelled task takes the stage's processes with it.
    """
    lines = run_dvc(
        f"stage {stage}", ["repro", "--single-item", stage], {PARENT_VARIABLE: pipeline}, f"dvc repro {stage}"
    )
    skips = (f"Stage '{stage}' didn't change, skipping", f"Stage '{stage}' is cached - skipping run")
    return Completed(name="Cached" if any(line.startswith(skips) for line in lines) else None)


def run_dvc(what: str, arguments: Sequence[str], environment: Mapping[str, str], remedy: str) -> list[str]:
    """Run DVC, log each line that it prints when it comes, and return them.

    Raises StageError, which says `what` failed, DVC's last words and the `remedy`. If the task is cancelled, DVC's
    processes end too.
    """
    logger = get_run_logger()
    lines: list[str] = []
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    with _process_group(command, {"PYTHONUNBUFFERED": "1", **environment}) as process:
        assert process.stdout is not None
        for line in filter(None, map(str.rstrip, process.stdout)):
            logger.info(line)
            lines.append(line)
        exit_code = process.wait()
    if exit_code:
        raise StageError(f"{what} failed ({exit_code}): {' | '.join(lines[-2:])}; try: {remedy}")
    return lines


@contextmanager
def _process_group(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that leads a group of its own; when the block ends, however it ends, the group is gone."""
    with subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            _end_group(process)


def _end_group(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _GRACE_S
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()  # reaps the leader, which would else count as alive
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)


def _server_answers() -> bool:
    try:
        urlopen(f"{PREFECT_API_URL.value()}/health", timeout=_SERVER_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True


def main(arguments: list[str]) -> None:
    """Run the flow once, or with `serve` wait for runs that Prefect schedules."""
    if arguments == ["serve"]:
        if not _server_answers():
            raise StageError(
                f"no Prefect server at {PREFECT_API_URL.value()}; start it: prefect server start"
            )
        flows = (train_azeros, prepare_data, evaluate, release)
        # One at a time: the stages of two runs in one checkout would want the same outputs.
        deployments: list[Any] = [flow.to_deployment(name=DEFAULT_DEPLOYMENT) for flow in flows]
        serve(*deployments, limit=1)
    elif arguments:
        raise StageError(f"unknown arguments {' '.join(arguments)}; give none, or serve")
    else:
        with some_server():
            train_azeros()


@contextmanager
def some_server() -> Iterator[None]:
    """Flows that run inside use the Prefect server that is there, or a private one."""
    if _server_answers():
        yield
        return
    # SIGTERM would end the process outright, and leave the private server.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AzerosError as error:
        sys.exit(f"flows.pipeline: {error}")
