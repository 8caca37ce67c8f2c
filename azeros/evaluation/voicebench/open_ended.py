"""AlpacaEval, CommonEval and WildVoice: the mean of a judge's marks from 1 to 5."""

from __future__ import annotations

import math
from collections.abc import Sequence

from azeros.evaluation.responses import Response
from azeros.evaluation.tally import NOTHING, Item, Ratio
from azeros.evaluation.voicebench.judge import parse_mark

_LOWEST, _HIGHEST = 1.0, 5.0


def score(rows: Sequence[Response]) -> list[Item]:
    """All marks of all rows weigh the same; officially one that cannot be read ends the evaluation.

    Strictly such a mark is the lowest, and so is one off the scale, which the official evaluator takes as it is.
    """
    return [_item(row.texts("score")) for row in rows]


def _item(judgements: list[str]) -> Item:
    marks = [_mark_or_nan(judgement) for judgement in judgements]
    kept = [mark if _LOWEST <= mark <= _HIGHEST else _LOWEST for mark in marks]
    num_lost = sum(not _LOWEST <= mark <= _HIGHEST for mark in marks)
    strict = (_sum_ratio(kept or [_LOWEST]),)  # without any mark, too
    try:
        marks = [parse_mark(judgement) for judgement in judgements]
    except NotImplementedError as error:
        name = type(error).__name__
        return Item({"error": name}, strict, None, fallbacks=num_lost, error=name)
    fields = {"scores": marks, "mean": sum(marks) / len(marks) if marks else None}
    return Item(fields, strict, (_sum_ratio(marks),), fallbacks=num_lost or int(not marks))


def _sum_ratio(marks: list[float]) -> Ratio:
    return (math.fsum(marks), float(len(marks))) if marks else NOTHING


def _mark_or_nan(judgement: str) -> float:
    try:
        return parse_mark(judgement)
    except NotImplementedError:
        return math.nan
