"""Figures against arithmetic, intervals against the binomial distribution."""

import random

import pytest

from azeros.evaluation.scores import wilson_interval
from azeros.evaluation.tally import NOTHING, figure, share


def test_a_figure_is_the_mean_of_the_parts() -> None:
    ratios = [((1.0, 1.0), (3.0, 4.0)), ((0.0, 1.0), (1.0, 4.0)), ((1.0, 1.0), NOTHING)]
    assert figure(ratios, 100.0, seed=0).value == pytest.approx((200 / 3 + 50) / 2)


def test_the_interval_is_that_of_the_binomial_distribution() -> None:
    rng = random.Random(0)
    hits = [rng.random() < 0.3 for _ in range(800)]
    interval = figure([(share(hit),) for hit in hits], 1.0, seed=0).interval
    assert interval is not None
    assert interval == pytest.approx(wilson_interval(sum(hits), len(hits)), abs=0.006)


def test_equal_seeds_give_equal_intervals() -> None:
    ratios = [(share(index % 3 == 0),) for index in range(50)]
    intervals = [figure(ratios, 1.0, seed).interval for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_a_part_without_items_has_no_figure() -> None:
    found = figure([(share(True), NOTHING)], 100.0, seed=0)
    assert (found.value, found.interval) == (None, None)


@pytest.mark.parametrize("mark", [float("nan"), float("inf")])
def test_a_mark_that_is_not_finite_has_no_figure(mark: float) -> None:
    assert figure([((mark, 1.0),), (share(True),)], 1.0, seed=0).value is None
    assert figure([((mark, 1.0),), ((-mark, 1.0),)], 1.0, seed=0).value is None


def test_marks_whose_resamples_overflow_have_no_figure() -> None:
    assert figure([((1e308, 1.0),), ((3.0, 1.0),)], 1.0, seed=0).value is None
