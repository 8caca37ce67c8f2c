"""Whether two rows compare: the same judge, data, decoding and budget of tokens?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from azeros.evaluation.leaderboard.results import OURS, Row, Terms

Verdict = Literal["same", "differs", "unknown"]


def pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Each of our rows with each other and with the published ones, rows made under the same terms once."""
    ours = [row for row in rows if row.source == OURS]
    published = {(row.source, str(row.terms)): row for row in reversed(rows) if row.source != OURS}
    return [*combinations(ours, 2), *((row, other) for row in ours for other in reversed(published.values()))]


def compare(one: Terms, other: Terms) -> dict[str, Verdict]:
    """A verdict on each aspect; what one of the two does not tell is unknown."""
    return {
        "judge": _same(one.judge, other.judge),
        "data": _same_data(one, other),
        "decoding": _same(one.decoding, other.decoding),
        "budget": _same(one.budget, other.budget),
    }


def line(one: Row, other: Row) -> str:
    """The verdicts as a sentence; the values follow where they differ."""
    told = []
    for aspect, verdict in compare(one.terms, other.terms).items():
        values = (
            "" if aspect == "data" else f" ({getattr(one.terms, aspect)} / {getattr(other.terms, aspect)})"
        )
        told.append(f"{aspect} {verdict}{values if verdict == 'differs' else ''}")
    return f"{_name(one)} and {_name(other)}: {', '.join(told)}"


def _name(row: Row) -> str:
    if row.source == OURS:
        return row.system
    return f"published {row.system}" if row.terms.decoding else f"published rows of {row.source}"


def _same(one: str | None, other: str | None) -> Verdict:
    if one is None or other is None:
        return "unknown"
    # A judge is known by its label where one of the two rows does not say what answered to it.
    label = one.partition(" (")[0]
    by_label = label in (one, other) and label == other.partition(" (")[0]
    return "same" if one == other or by_label else "differs"


def _same_data(one: Terms, other: Terms) -> Verdict:
    common = one.data.keys() & other.data.keys()
    if common:
        return "same" if all(one.data[name] == other.data[name] for name in common) else "differs"
    return "differs" if False in (one.is_complete, other.is_complete) else "unknown"
