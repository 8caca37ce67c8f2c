"""Filters of responses are off unless set, and say what they find."""

import random

import pytest

from azeros.params import Unusable
from azeros.sift.responses import num_repeats, unusable

OFF = Unusable(empty=False, max_repeats=None, refusals=[])
ON = Unusable(empty=True, max_repeats=4, refusals=["I'm sorry", "I cannot"])


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("the sky is blue.", None),
        ("", "empty response"),
        (" \n<|truncated|>", "empty response"),
        ("so so so so so so", "response that loops"),
        (
            "well, it is. and then, and then, and then, and then, and then, a<|truncated|>",
            "response that loops",
        ),
        ("yes, yes, yes!", None),
        ("it goes on and on and on and on and on and on, then it ends", None),
        ("i'm SORRY, but I can't.", "response that refuses"),
        ("I said: I'm sorry.", None),
    ],
)
def test_reasons(response: str, reason: str | None) -> None:
    assert unusable(response, ON) == reason
    assert unusable(response, OFF) is None


def test_repeats_equal_those_counted_by_hand() -> None:
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choices("ab", k=rng.randint(1, 14)))
        most = 1.0
        for period in range(1, len(text)):
            length = period
            while length < len(text) and text[-1 - length] == text[-1 - length + period]:
                length += 1
            most = max(most, length / period)
        assert num_repeats(text) == most
