"""IFEval: the share of instructions followed, and of prompts with all followed, read strictly and loosely."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from azeros.evaluation.responses import Response
from azeros.evaluation.tally import Item, Ratio, failed, share
from azeros.evaluation.voicebench.instructions import Check, build_check
from azeros.evaluation.voicebench.marks import without_first, without_last
from azeros.progress import track

PARTS = ("strict-prompt", "strict-instruction", "loose-prompt", "loose-instruction")
_RAISED = (ValueError, KeyError, IndexError, TypeError, re.error)


def loose_variants(response: str) -> Iterator[str]:
    """The response, without its first, last, first and last lines, each also without asterisks."""
    lines = response.split("\n")
    cuts = ["\n".join(kept).strip() for kept in (lines[1:], lines[:-1], lines[1:-1])]
    for text in (response, *cuts):
        yield text
        yield text.replace("*", "")


def official_result(ratios: Mapping[str, float]) -> dict[str, float]:
    """What the official script prints: the four shares and their plain mean."""
    return {**ratios, "final": sum(ratios.values()) / len(ratios)}


def score(rows: Sequence[Response], seed: int) -> list[Item]:
    """One item a row; as officially, rows with the same prompt share the response of the last of them.

    Where the official code replaces an argument by a random one, `seed` draws it, and strictly the instruction is not
    followed.
    """
    rng = random.Random(seed)
    responses = {row.text("prompt"): without_last(without_first(row.text("response"))) for row in rows}
    items = []
    with track("ifeval", len(rows)) as advance:
        for row in rows:
            items.append(_item(row, responses[row.text("prompt")], rng))
            advance(1)
    return items


def _item(row: Response, response: str, rng: random.Random) -> Item:
    ids = row.array("instruction_id_list")
    kwargs = row.array("kwargs")
    drawn, strict, loose = [], [], []
    try:
        for index, instruction_id in enumerate(ids):
            arguments = {key: value for key, value in kwargs[index].items() if value}
            redrawn = draw_arguments(instruction_id, arguments, rng)
            check = build_check(instruction_id, redrawn)
            drawn.append(redrawn != arguments)
            strict.append(_passes(check, response))
            loose.append(any(_passes(check, text) for text in loose_variants(response)))
    except _RAISED as error:
        name = "re.error" if isinstance(error, re.error) else type(error).__name__
        return failed(name, _ratios([False] * len(ids), [False] * len(ids)))
    sure = [
        [followed and not guess for followed, guess in zip(read, drawn, strict=True)]
        for read in (strict, loose)
    ]
    fields = {"strict": strict, "loose": loose}
    return Item(fields, _ratios(*sure), _ratios(strict, loose), fallbacks=int(any(drawn)))


def _passes(check: Check, text: str) -> bool:
    return bool(text.strip()) and check(text)


def _ratios(strict: Sequence[bool], loose: Sequence[bool]) -> tuple[Ratio, ...]:
    return tuple(
        ratio
        for followed in (strict, loose)
        for ratio in (share(all(followed)), (float(sum(followed)), float(len(followed))))
    )


def draw_arguments(instruction_id: str, arguments: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """`arguments` with those replaced that the official code replaces though they are given."""
    draw = _DRAWS.get(instruction_id)
    return {**arguments, **(draw(arguments, rng) if draw else {})}


def _draw_letter(arguments: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    letter = arguments.get("letter", "")
    if len(letter) == 1 and "a" <= letter.lower() <= "z":
        return {}
    return {"letter": rng.choice(string.ascii_letters)}


def _draw_paragraph(arguments: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    count = arguments.get("num_paragraphs", 0)
    if count < 1 or 0 < arguments.get("nth_paragraph", 0) <= count:
        return {}
    return {"nth_paragraph": rng.randint(1, int(count) + 1)}


_DRAWS: dict[str, Callable[[Mapping[str, Any], random.Random], dict[str, Any]]] = {
    "keywords:letter_frequency": _draw_letter,
    "length_constraints:nth_paragraph_first_word": _draw_paragraph,
}
