"""OpenBookQA and MMSU: the letter that a response names."""

from __future__ import annotations

import random
from collections.abc import Sequence

from azeros.evaluation.responses import Response
from azeros.evaluation.tally import Item
from azeros.evaluation.voicebench.guesses import closed_item
from azeros.evaluation.voicebench.marks import without_first
from azeros.evaluation.voicebench.mcq_templates import TEMPLATES

LETTERS = ("A", "B", "C", "D")


def find_letter(response: str) -> str | None:
    """A, B, C or D, or None where the official evaluator would guess.

    Templates go before letters and letters before positions; nothing has to end after the letter: "the answer is
    actually D" is A.
    """
    lowered = without_first(response.lower())
    for template in TEMPLATES:
        for letter in LETTERS:
            if template.replace("@", letter.lower()) in lowered:
                return letter
    for letter in LETTERS:
        bare = letter.lower()
        if lowered == bare or lowered.startswith(tuple(bare + end for end in ".,:)")):
            return letter
    return None


def score(rows: Sequence[Response], seed: int) -> list[Item]:
    """Guesses as after `random.seed(seed)`."""
    rng = random.Random(seed)
    return [
        closed_item(find_letter(row.text("response")), row.text("reference"), LETTERS, rng) for row in rows
    ]
