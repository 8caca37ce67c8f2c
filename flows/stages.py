"""What the flows do: a stage of dvc.yaml, or a part of one, as a Prefect task with a process group of its own."""

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
from pathlib import Path
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed

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


class KilledError(StageError):
    """A signal ended a stage that nobody cancelled: the machine ran out of memory, or somebody killed it."""


def _was_killed(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether a stage deserves another try: it goes on from its own saved work, while an error would come again."""
    return isinstance(state.data, KilledError)


@task(name="sift", retries=1, retry_delay_seconds=_RETRY_DELAY_S, retry_condition_fn=_was_killed)
def run_shard(stage: str, index: int, num: int, pipeline: str, device: int) -> None:
    """Answer one of `num` parts of a set, counted from 1, on one GPU, and keep the answers in .work for the stage itself.

    Raises StageError if it fails. A cancelled task takes its processes with it.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        (found,) = repo.stage.collect(stage)
    command = [*shlex.split(found.cmd.removeprefix("exec ")), "--shard", f"{index}/{num}"]
    run_command(
        f"part {index}/{num} of {stage}", command, _environment(pipeline, device), shlex.join(command)
    )


@task(retries=1, retry_delay_seconds=_RETRY_DELAY_S, retry_condition_fn=_was_killed)
def run_stage(stage: str, pipeline: str, device: int) -> State[None]:
    """Have DVC bring one stage up to date, on one GPU (a launcher takes more); the state is named `Cached` if there was nothing to do.

    Raises StageError if the stage fails. A cancelled task takes the stage's processes with it.
    """
    lines = run_dvc(
        f"stage {stage}",
        ["repro", "--single-item", stage],
        _environment(pipeline, device),
        f"dvc repro {stage}",
    )
    skips = (f"Stage '{stage}' didn't change, skipping", f"Stage '{stage}' is cached - skipping run")
    if any(line.startswith(skips) for line in lines):
        return Completed(name="Cached")
    _show_reports(stage)
    return Completed()


def _show_reports(stage: str) -> None:
    from dvc.repo import Repo

    with Repo() as repo:
        (found,) = repo.stage.collect(stage)
    for out in (Path(out.fs_path) for out in found.outs):
        for path in sorted(out.glob("*.md")) if out.is_dir() else [out]:
            if path.suffix == ".md":
                show(f"{stage}-{path.stem}", path)


def show(name: str, report: Path) -> None:
    """Put a page among Prefect's artifacts, without its pictures, which stay beside it; a server that is gone misses it."""
    lines = report.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("!["))
    try:
        create_markdown_artifact(text, key=re.sub("[^a-z0-9]+", "-", name.lower()))
    except Exception as error:  # httpx's, Prefect's
        get_run_logger().warning("%s is not among Prefect's artifacts: %s", report, one_line(error))


def _environment(pipeline: str, device: int) -> dict[str, str]:
    return {PARENT_VARIABLE: pipeline, "LOCAL_RANK": str(device)}


def run_dvc(what: str, arguments: Sequence[str], environment: Mapping[str, str], remedy: str) -> list[str]:
    """Run DVC, log each line that it prints when it comes, and return them.

    Raises StageError, which says `what` failed, DVC's last words and the `remedy`. If the task is cancelled, DVC's
    processes end too.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    return run_command(what, command, environment, remedy)


def run_command(what: str, command: list[str], environment: Mapping[str, str], remedy: str) -> list[str]:
    """Run a program as `run_dvc` runs DVC."""
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


@contextmanager
def all_leave_together() -> Iterator[None]:
    """When an exception ends the block, such as that of a signal, the processes of all tasks end; none begins any more."""
    _leaving.clear()
    try:
        yield
    except BaseException:
        _leaving.set()
        for process in list(_running):
            _end_group(process)
        raise


def _end_group(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _GRACE_S
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()  # reaps the leader, which would else count as alive
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
