"""The pipeline and its parts as Prefect flows, one task a stage of dvc.yaml.

python -m flows.pipeline         run now, with or without a Prefect server
python -m flows.pipeline serve   wait for `prefect deployment run train-azeros`, and for those of its parts
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any
from urllib.request import urlopen

from prefect import flow, get_run_logger, serve, task
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from pydantic import PositiveInt

from azeros.errors import AzerosError, StageError
from azeros.params import load_params
from flows.checkout import PARAMS, own_checkout
from flows.graph import read_stages, run_stages, word_of
from flows.plugin import DEFAULT_DEPLOYMENT
from flows.stages import run_command, show

_SERVER_TIMEOUT_S = 3.0
_PRIVATE_SERVER_TIMEOUT_S = 300  # it takes 20 s, on a busy machine minutes


@flow(name="train-azeros")
def train_azeros(overrides: Sequence[str] = (), workers: PositiveInt = 1, dask: str | None = None) -> None:
    """Bring every stage of dvc.yaml up to date and release the model.

    Args:
        overrides: settings of this run alone, like `train.stage1.num_steps=500`, and files of such settings, like
            `flows/paper.yaml`.
        workers: so many stages run at a time, each on a GPU of its own, and in so many parts a set gets its targets.
        dask: address of a Dask scheduler, `tcp://host:8786`, whose workers prepare corpora and do these parts, each in a
            checkout that shares its files with this one; none: this machine does them.
    """
    with own_checkout(overrides):
        run_stages(read_stages(), workers, dask)
        release_and_package()


@flow(name="prepare-data")
def prepare_data(overrides: Sequence[str] = (), workers: PositiveInt = 1, dask: str | None = None) -> None:
    """Make the manifests of every corpus, their card, and the targets of every set; the arguments are those of `train-azeros`."""
    with own_checkout(overrides):
        run_stages(_stages_of("prepare", "card", "sift"), workers, dask)


@flow(name="evaluate")
def evaluate(overrides: Sequence[str] = (), workers: PositiveInt = 1) -> None:
    """Evaluate the models that are there, and put them to the benchmarks; the arguments are those of `train-azeros`."""
    with own_checkout(overrides):
        run_stages(_stages_of("evaluate", "benchmark"), workers)


@flow(name="release")
def release() -> None:
    """Register the packaged model; if it wins, it becomes the champion, and a bento is made of it."""
    with own_checkout():
        release_and_package()


def release_and_package() -> None:
    """Two tasks; the second has work if the model became the champion."""
    if release_model():
        build_bento()


@task(name="release", task_run_name="release")
def release_model() -> bool:
    """Register the packaged model, say what became of it, and return whether it is now the champion."""
    from azeros import release as releases

    outcome = releases.run(load_params(PARAMS))
    became = "is now the champion" if outcome.promoted else "was not promoted"
    get_run_logger().info("version %d %s: %s", outcome.version, became, outcome.reason)
    show("model card", releases.REPORT)
    return outcome.promoted


@task(name="bento", task_run_name="bento")
def build_bento() -> None:
    """Make a bento of the champion, where BentoML is installed.

    Raises StageError if that fails.
    """
    if find_spec("bentoml") is None:
        get_run_logger().warning("no bento of the champion without BentoML: pip install 'azeros[serve]'")
        return
    command = [sys.executable, "-m", "bento.build"]
    run_command("the bento of the champion", command, {}, "python -m bento.build")


def _stages_of(*words: str) -> dict[str, set[str]]:
    return {stage: needs for stage, needs in read_stages().items() if word_of(stage) in words}


def _server_answers() -> bool:
    try:
        urlopen(f"{PREFECT_API_URL.value()}/health", timeout=_SERVER_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True


def main(arguments: list[str]) -> None:
    """Run the flow once, or with `serve` wait for runs that Prefect schedules."""
    if arguments not in ([], ["serve"]):
        raise StageError(f"unknown arguments {' '.join(arguments)}; give none, or serve")
    read_stages()  # what is wrong with the pipeline is said at once
    if arguments:
        if not _server_answers():
            raise StageError(
                f"no Prefect server at {PREFECT_API_URL.value()}; start it: prefect server start"
            )
        flows = (train_azeros, prepare_data, evaluate, release)
        # One at a time: the stages of two runs in one checkout would want the same outputs.
        deployments: list[Any] = [flow.to_deployment(name=DEFAULT_DEPLOYMENT) for flow in flows]
        paper: Any = train_azeros.to_deployment(name="paper", parameters={"overrides": ["flows/paper.yaml"]})
        with suppress(SystemExit):  # by SIGTERM
            serve(*deployments, paper, limit=1)
        # Prefect stops amid its work, and a thread that waits for more of that would keep the process now and then.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
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
    patience = {PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: _PRIVATE_SERVER_TIMEOUT_S}
    with temporary_settings(updates=patience, restore_defaults={PREFECT_API_URL}):
        yield


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AzerosError as error:
        sys.exit(f"flows.pipeline: {error}")
