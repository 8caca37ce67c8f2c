"""Results come in the order of the items, few of which are taken ahead."""

import time
from collections.abc import Iterator

import pytest

from azeros.data.parallel import map_in_order


def test_order_and_laziness() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield number

    def work(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number * number

    results = map_in_order(work, items())
    assert [next(results) for _ in range(50)] == [number * number for number in range(50)]
    assert taken < 1000
    results.close()  # type: ignore[attr-defined]


def test_an_error_comes_where_its_result_would() -> None:
    results = map_in_order(lambda number: 1 // number, [1, 1, 0, 1])
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
