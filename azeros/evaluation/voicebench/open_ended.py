"""AlpacaEval, CommonEval and WildVoice: the mean of a judge's marks from 1 to 5."""

from __future__ import annotations

from collections.abc import Sequence

from azeros.evaluation.responses import Response
from azeros.evaluation.tally import NOTHING, Item, Ratio, failed
from azeros.evaluation.voicebench.judge import parse_mark

_LOWEST, _HIGHEST = 1.0, 5.0


def score(rows: Sequence[Response]) -> list[Item]:
    """All marks of all rows weigh the same; officially one that cannot be read ends the evaluation.

    Strictly such a mark is the lowest, and so is one off the scale, which the official evaluator takes as it is.
    """
    return [_item(row.texts("score")) for row in rows]


def _item(judgements: list[str]) -> Item:
    read = [parse_mark(judgement) for judgement in judgements]
    marks = [mark for mark in read if mark is not None]
    on_scale = [mark for mark in marks if _LOWEST <= mark <= _HIGHEST]
    num_lost = len(read) - len(on_scale) or int(not read)  # without any mark, one is lost
    strict = (_sum_ratio([*on_scale, *[_LOWEST] * num_lost]),)
    if len(marks) < len(read):
        return failed("NotImplementedError", strict, fallbacks=num_lost)
    fields = {"scores": marks, "mean": sum(marks) / len(marks) if marks else None}
    return Item(fields, strict, (_sum_ratio(marks),), fallbacks=num_lost)


def _sum_ratio(marks: list[float]) -> Ratio:
    return (sum(marks), float(len(marks))) if marks else NOTHING
