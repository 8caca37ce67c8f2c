"""What the flows do: stages of dvc.yaml as Prefect tasks, in the order that DVC's graph gives, some of them side by side."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from azeros.errors import StageError, one_line

PARENT_VARIABLE = "AZEROS_PARENT_RUN"  # under this name the stages find their MLflow parent run
_GRACE_S = 10.0  # for a cancelled stage to tidy up
_RETRY_DELAY_S = 10.0  # until a machine that ran out of memory has some again
_EXITED = re.compile(r"exited with (-?\d+)")  # DVC's word on a stage
_running: set[subprocess.Popen[str]] = set()  # in whatever thread
_leaving = threading.Event()  # threads that are left begin nothing more
_MORTAL = """
import os, sys
from azeros.work import die_with_parent

die_with_parent()  # exec keeps that
os.execvp(sys.argv[1], sys.argv[1:])
"""

Call = tuple[Task[..., Any], dict[str, Any]]


class KilledError(StageError):
    """A signal ended a stage that nobody cancelled: the machine ran out of memory, or somebody killed it."""


def stages_in_order() -> list[str]:
    """Addresses of all stages (`sift@tiny_s`), each after those it depends on, always in the same order.

    Raises StageError where there is no pipeline that DVC can read.
    """
    import networkx as nx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph = repo.index.graph.reverse()  # DVC's edges lead from a stage to its dependencies
            order = nx.lexicographical_topological_sort(graph, key=lambda stage: stage.addressing)
            return [stage.addressing for stage in order if stage.cmd]
    except DvcException as error:
        raise StageError(
            f"no pipeline in {Path.cwd()}: {one_line(error)}; go to a clone of the project, where dvc.yaml is"
        ) from error


def word_of(stage: str) -> str:
    """`sift` of `sift@tiny_s`."""
    return stage.partition("@")[0]


def run_stages(stages: Sequence[str], workers: int = 1, dask: str | None = None) -> None:
    """Bring stages up to date, in their order; corpora, and parts of a set of targets, `workers` at a time.

    Args:
        stages: addresses, as `stages_in_order` gives them.
        workers: how many at a time.
        dask: address of a Dask scheduler whose workers do what is done side by side; none: this machine does.

    Raises StageError if a stage fails, or prefect-dask is not installed.
    """
    pipeline = f"prefect:{flow_run.id}"
    _leaving.clear()
    with _runner(workers, dask) as runner:
        for word, group in groupby(stages, word_of):
            if word == "prepare":  # no corpus depends on another
                _at_once(runner, [(_named(name), {"stage": name, "pipeline": pipeline}) for name in group])
                continue
            for stage in group:
                if word == "sift" and workers > 1 and not _is_done(stage):
                    _at_once(runner, _parts(stage, workers, pipeline))  # which the stage gathers
                _named(stage)(stage, pipeline)


def _runner(workers: int, dask: str | None) -> TaskRunner[Any]:
    if dask is None:
        return ThreadPoolTaskRunner(max_workers=workers)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ModuleNotFoundError as error:
        raise StageError("a Dask scheduler wants prefect-dask: pip install 'azeros[dask]'") from error
    return DaskTaskRunner(address=dask)


def _at_once(runner: TaskRunner[Any], calls: Sequence[Call]) -> None:
    """Run tasks side by side; one that fails lets the others finish first. Leaving by a signal ends them all."""
    futures = [runner.submit(task, arguments) for task, arguments in calls]
    try:
        for future in futures:
            future.wait()
    except BaseException:
        _leaving.set()
        for future in futures:
            future.wrapped_future.cancel()  # those that have not begun
        for process in list(_running):
            _end_group(process)
        raise
    for future in futures:
        future.result()


def _parts(stage: str, num: int, pipeline: str) -> list[Call]:
    return [
        (
            run_shard.with_options(task_run_name=f"{stage} {index}/{num}"),
            {"stage": stage, "index": index, "num": num, "pipeline": pipeline},
        )
        for index in range(1, num + 1)
    ]


def _named(stage: str) -> Task[[str, str], State[None]]:
    return run_stage.with_options(name=word_of(stage), task_run_name=stage)


def _is_done(stage: str) -> bool:
    """Whether a stage is up to date, perhaps by what DVC remembers of an earlier run."""
    from dvc.repo import Repo
    from dvc.stage.cache import RunCacheNotFoundError

    with Repo() as repo, repo.lock:
        (found,) = repo.stage.collect(stage)
        if found.changed():
            try:
                repo.stage_cache.restore(found)
            except RunCacheNotFoundError:
                return False
    return True


def _was_killed(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether a stage deserves another try: it goes on from its own saved work, while an error would come again."""
    return isinstance(state.data, KilledError)


@task(name="sift", retries=1, retry_delay_seconds=_RETRY_DELAY_S, retry_condition_fn=_was_killed)
def run_shard(stage: str, index: int, num: int, pipeline: str) -> None:
    """Answer one of `num` parts of a set, counted from 1, and keep the answers in .work for the stage itself.

    Raises StageError if it fails. A cancelled task takes its processes with it.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        (found,) = repo.stage.collect(stage)
    command = [*shlex.split(found.cmd.removeprefix("exec ")), "--shard", f"{index}/{num}"]
    environment = {PARENT_VARIABLE: pipeline, "LOCAL_RANK": str(index - 1)}  # a GPU of its own
    _run(f"part {index}/{num} of {stage}", command, environment, shlex.join(command))


@task(retries=1, retry_delay_seconds=_RETRY_DELAY_S, retry_condition_fn=_was_killed)
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
    return _run(what, [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments], environment, remedy)


def _run(what: str, command: list[str], environment: Mapping[str, str], remedy: str) -> list[str]:
    if _leaving.is_set():
        raise StageError(f"{what}: the run was cancelled")
    logger = get_run_logger()
    lines: list[str] = []
    with _process_group(command, {"PYTHONUNBUFFERED": "1", **environment}) as process:
        assert process.stdout is not None
        for line in filter(None, map(str.rstrip, process.stdout)):
            logger.info(line)
            lines.append(line)
        exit_code = process.wait()
    if exit_code:
        last = " | ".join(lines[-2:])
        kind = KilledError if _is_killed(exit_code, last) and not _leaving.is_set() else StageError
        raise kind(f"{what} failed ({exit_code}): {last}; try: {remedy}")
    return lines


def _is_killed(exit_code: int, last: str) -> bool:
    """Whether a signal other than a polite one ended a command, or the stage that DVC ran for it."""
    told = _EXITED.search(last)
    code = int(told[1]) if told else exit_code
    number = -code if code < 0 else code - 128  # as a shell reports it
    return number in signal.valid_signals() - {signal.SIGINT, signal.SIGTERM}


@contextmanager
def _process_group(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that leads a group of its own; when the block ends, however it ends, the group is gone.

    Should this process be killed, it is told to end, and the stage below it too: whoever goes on finds none still at work.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _MORTAL, *command],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        _running.add(process)
        try:
            yield process
        finally:
            _running.discard(process)
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
