"""Scores against brute force and tables."""

import itertools
import random

import pytest

from azeros.evaluation.scores import edit_distance, names_label, wilson_interval, word_units


def brute_force(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(
        brute_force(a[1:], b) + 1, brute_force(a, b[1:]) + 1, brute_force(a[1:], b[1:]) + (a[0] != b[0])
    )


def test_edit_distance_equals_the_recursion() -> None:
    rng = random.Random(0)
    for _ in range(60):
        a, b = (tuple(rng.choices("xyz", k=rng.randint(0, 5))) for _ in range(2))
        assert edit_distance(a, b) == brute_force(a, b)


def test_words_and_characters_are_the_units() -> None:
    assert word_units("Tom's  two, RED hats.") == ["tom", "s", "two", "red", "hats"]
    assert word_units("小明 wants 三个") == ["小", "明", "wants", "三", "个"]


@pytest.mark.parametrize(
    ("answer", "right"),
    [("female.", True), ("Female", True), ("male.", False), ("male or female", False), ("", False)],
)
def test_a_label_is_named_alone_and_as_a_word(answer: str, right: bool) -> None:
    assert names_label(answer, "female", ["male", "female"]) is right


def test_wilson_interval_as_tabulated() -> None:
    low, high = wilson_interval(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_interval_covers_the_share() -> None:
    for hits, total in itertools.product(range(5), [4, 9]):
        low, high = wilson_interval(hits, total)
        assert 0 <= low <= hits / total <= high <= 1
