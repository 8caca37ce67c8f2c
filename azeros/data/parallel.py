"""Work on a stream of items in several threads: decoding and resampling leave Python's lock to the others."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Items that a thread may be ahead of the one that is waited for: enough to bridge a long recording.
_AHEAD = 8


def map_in_order(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`function` of each item, in order, with as many threads as there are cores; few items are held at a time.

    `items` is iterated over in the caller's thread. What `function` raises is raised where its result would be.
    """
    num_threads = os.cpu_count() or 1
    with ThreadPoolExecutor(num_threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > _AHEAD * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
