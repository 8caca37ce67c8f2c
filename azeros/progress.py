"""One progress bar for every long job: on a terminal it moves, in a log file it is a line now and then."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LINE_EVERY_S = 15.0


@contextmanager
def track(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`; shows `what`, the count and, unless `total` is None (unknown), the time that is left.

    Of processes that torchrun started, the first does.
    """
    if total == 0 or os.environ.get("RANK", "0") != "0":
        yield lambda count: None
    elif sys.stderr.isatty():
        yield from _bar(what, total)
    else:
        yield from _lines(what, total)


def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.update(task, advance=count)


def _lines(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    started = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last > _LINE_EVERY_S or done == total:
            last = now
            print(f"{what}: {_standing(done, total, now - started)}", file=sys.stderr, flush=True)

    yield advance


def _standing(done: int, total: int | None, taken_s: float) -> str:
    if total is None:
        return f"{done}, {taken_s:.0f} s"
    return f"{done}/{total}, {taken_s:.0f} s, {taken_s / done * (total - done):.0f} s left"
