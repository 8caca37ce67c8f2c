"""Answers from a fixed set, which the official evaluators guess where they find none."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from azeros.evaluation.tally import Item, share

T = TypeVar("T")


def closed_item(found: T | None, right: T, choices: Sequence[T], rng: random.Random) -> Item:
    """An item whose answer is one of `choices`; `found` None takes the next draw of `rng`.

    One draw a failure, in the order of the rows, is what the official evaluators do with the global generator: equal
    seeds give equal guesses.
    """
    if found is not None:
        ratio = share(found == right)
        fields = {"pred": found, "random_fallback": False, "correct": found == right}
        return Item(fields, (ratio,), (ratio,), (ratio,))
    return Item(
        {"pred": None, "random_fallback": True, "correct": None},
        strict=(share(False),),
        official=(share(rng.choice(choices) == right),),
        expected=((1 / len(choices), 1.0),),
        fallbacks=1,
    )
