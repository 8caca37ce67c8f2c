"""The stages of dvc.yaml as a Prefect flow, one task a stage, in the order that DVC's graph gives.

python -m flows.pipeline         run now, with or without a Prefect server
python -m flows.pipeline serve   wait for `prefect deployment run train-azeros/local`
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.error import URLError
from urllib.request import urlopen

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed

from azeros.errors import AzerosError, StageError

PARENT_VARIABLE = "AZEROS_PARENT_RUN"  # under this name the stages find their MLflow parent run
_GRACE_S = 10.0  # for a cancelled stage to tidy up
_SERVER_TIMEOUT_S = 3.0


@flow(name="train-azeros")
def train_azeros() -> None:
    """Bring every stage of dvc.yaml up to date."""
    for stage in stages_in_order():
        word = stage.partition("@")[0]
        # Called, not submitted: a submitted task would hold up a cancel until its stage had ended.
        run_stage.with_options(name=word, task_run_name=stage)(stage, pipeline=f"prefect:{flow_run.id}")


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
    logger = get_run_logger()
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    skipped, last_lines = False, deque[str](maxlen=2)
    with _process_group(command, {PARENT_VARIABLE: pipeline, "PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        for line in map(str.rstrip, process.stdout):
            if line:
                logger.info(line)
                last_lines.append(line)
            skipped |= line.startswith(
                (f"Stage '{stage}' didn't change, skipping", f"Stage '{stage}' is cached - skipping run")
            )
        exit_code = process.wait()
    if exit_code:
        raise StageError(
            f"stage {stage} failed ({exit_code}): {' | '.join(last_lines)}; try: dvc repro {stage}"
        )
    return Completed(name="Cached") if skipped else Completed()


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
    except (URLError, OSError, ValueError):
        return False
    return True


def main(arguments: list[str]) -> None:
    """Run the flow once, or with `serve` wait for runs that Prefect schedules."""
    if arguments == ["serve"]:
        if not _server_answers():
            raise StageError(
                f"no Prefect server at {PREFECT_API_URL.value()}; start it: prefect server start"
            )
        train_azeros.serve(name="local")
    elif arguments:
        raise StageError(f"unknown arguments {' '.join(arguments)}; give none, or serve")
    else:
        with ExitStack() as stack:
            if not _server_answers():  # Prefect then starts a private one for this run
                stack.enter_context(temporary_settings(restore_defaults={PREFECT_API_URL}))
                # and stops it at exit, which a process that SIGTERM ends outright never reaches.
                signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
            train_azeros()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AzerosError as error:
        sys.exit(f"flows.pipeline: {error}")
