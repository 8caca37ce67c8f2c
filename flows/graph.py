"""The graph of dvc.yaml, and its stages as Prefect tasks, each begun as soon as those it depends on are done."""

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from prefect import Task, get_run_logger
from prefect.client.schemas.objects import RunInput, TaskRunResult
from prefect.futures import PrefectWrappedFuture
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from azeros.errors import StageError, one_line
from flows.stages import all_leave_together, run_shard, run_stage

Future = PrefectWrappedFuture[Any, Any]


def read_stages() -> dict[str, set[str]]:
    """The pipeline: addresses of all stages (`sift@tiny_s`), each with those it depends on and after them, in the same order always.

    Raises StageError where there is no pipeline that DVC can read.
    """
    import networkx as nx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph = repo.index.graph  # DVC's edges lead from a stage to its dependencies
            order = nx.lexicographical_topological_sort(graph.reverse(), key=lambda stage: stage.addressing)
            return {
                stage.addressing: {needed.addressing for needed in graph[stage] if needed.cmd}
                for stage in order
                if stage.cmd
            }
    except DvcException as error:
        raise StageError(
            f"no pipeline in {Path.cwd()}: {one_line(error)}; go to a clone of the project, where dvc.yaml is"
        ) from error


def word_of(stage: str) -> str:
    """`sift` of `sift@tiny_s`."""
    return stage.partition("@")[0]


@dataclass(frozen=True)
class _Step:
    """A stage, or a part of one."""

    task: Task[..., Any]
    arguments: dict[str, Any]
    runner: TaskRunner[Any]
    needs: Set[str]


class _Crew:
    """So many steps at work at a time, each on a GPU of its own."""

    def __init__(self, num: int) -> None:
        self._free = list(range(num))  # a heap: the first GPU that nobody has
        self._at_work: dict[str, tuple[Future, int]] = {}
        self._ended: SimpleQueue[str] = SimpleQueue()
        self._ids: dict[str, UUID] = {}
        self.failed: list[Future] = []

    @property
    def has_room(self) -> bool:
        return bool(self._free)

    @property
    def is_idle(self) -> bool:
        return not self._at_work

    def begin(self, name: str, step: _Step) -> None:
        device = heappop(self._free)
        # Prefect draws its graph from what an argument comes of.
        upstream: set[RunInput] = {TaskRunResult(id=self._ids[need]) for need in step.needs}
        future = step.runner.submit(
            step.task, {**step.arguments, "device": device}, dependencies={"stage": upstream}
        )
        self._ids[name] = future.task_run_id
        self._at_work[name] = future, device
        future.add_done_callback(lambda _: self._ended.put(name))

    def wait(self) -> str | None:
        """Wait for the next step to end. Returns its name, or None if it failed."""
        name = self._ended.get()
        future, device = self._at_work.pop(name)
        heappush(self._free, device)
        future.wait()
        if future.state.is_completed():
            return name
        self.failed.append(future)
        return None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """When a signal ends the block, all that is at work ends."""
        with all_leave_together():
            try:
                yield
            except BaseException:
                for future, _ in self._at_work.values():
                    future.wrapped_future.cancel()  # what a Dask scheduler has not begun
                raise


def run_stages(stages: Mapping[str, Set[str]], workers: int = 1, dask: str | None = None) -> None:
    """Bring stages up to date, each as soon as those it depends on are, as many side by side as there are workers.

    A set of targets that is not up to date gets its answers in as many parts, which its stage then gathers. Where a stage fails, all
    that does not depend on it goes on. Leaving by a signal ends all that runs.

    Args:
        stages: addresses, each with those it depends on, as `read_stages` gives them; what is not among them is taken as done.
        workers: how many run at a time, each on a GPU of its own.
        dask: address of a Dask scheduler whose workers prepare the corpora and answer the parts; none: this machine does.

    Raises the error of the stage that failed first, and StageError if prefect-dask is not installed.
    """
    pipeline = f"prefect:{flow_run.id}"
    crew = _Crew(workers)
    here: TaskRunner[Any] = ThreadPoolTaskRunner()
    with here, _elsewhere(dask) or nullcontext(here) as there, crew.at_work():
        waiting = {
            name: _Step(
                run_stage.with_options(name=word_of(name), task_run_name=name),
                {"stage": name, "pipeline": pipeline},
                there if word_of(name) == "prepare" else here,
                needs & stages.keys(),
            )
            for name, needs in stages.items()
        }
        done: set[str] = set()
        to_divide = {stage for stage in stages if word_of(stage) == "sift" and workers > 1}
        while True:
            ready = next((name for name, step in waiting.items() if step.needs <= done), None)
            if ready is None or not crew.has_room:
                if crew.is_idle:
                    break
                if ended := crew.wait():
                    done.add(ended)
            elif ready in to_divide and not _is_done(ready):
                to_divide.remove(ready)
                whole = waiting[ready]
                parts = _parts(ready, workers, replace(whole, runner=there))
                waiting = parts | waiting | {ready: replace(whole, needs=parts.keys())}
            else:
                crew.begin(ready, waiting.pop(ready))
    if crew.failed:
        if waiting:
            get_run_logger().warning("not begun, as they need what failed: %s", ", ".join(waiting))
        crew.failed[0].result()


def _parts(stage: str, num: int, whole: _Step) -> dict[str, _Step]:
    names = [f"{stage} {index}/{num}" for index in range(1, num + 1)]
    return {
        name: replace(
            whole,
            task=run_shard.with_options(task_run_name=name),
            arguments={**whole.arguments, "index": index, "num": num},
        )
        for index, name in enumerate(names, 1)
    }


def _elsewhere(dask: str | None) -> TaskRunner[Any] | None:
    if dask is None:
        return None
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ModuleNotFoundError as error:
        raise StageError("a Dask scheduler wants prefect-dask: pip install 'azeros[dask]'") from error
    return DaskTaskRunner(address=dask)


def _is_done(stage: str) -> bool:
    """Whether a stage is up to date, perhaps by what DVC remembers of an earlier run."""
    from dvc.repo import Repo
    from dvc.stage.cache import RunCacheNotFoundError

    with Repo(_wait_for_lock=True) as repo, repo.lock:  # stages at work take it for a moment
        (found,) = repo.stage.collect(stage)
        if found.changed():
            try:
                repo.stage_cache.restore(found)
            except RunCacheNotFoundError:
                return False
    return True
