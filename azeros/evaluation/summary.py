"""The figures of a scored file: official beside strict, how much of either is luck, and each part of the mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from azeros.evaluation.responses import Response
from azeros.evaluation.tally import Item, figure

PartRatios = Mapping[str, float]


@dataclass(frozen=True)
class Scored:
    """A scored file.

    Attributes:
        items: one for each row.
        parts: names of what the figure is the mean of.
        scale: `scale` times a ratio is what the tables show.
        official_result: from the parts' ratios to what the official script prints.
        absent: why there is no figure although every row was scored.
    """

    items: list[Item]
    parts: tuple[str, ...]
    scale: float
    official_result: Callable[[PartRatios], dict[str, Any]]
    absent: str | None = None


def summarise(scored: Scored, rows: Sequence[Response], seed: int) -> dict[str, Any]:
    """The figures as plain values; those that do not exist are None, and `official_absent` says why.

    `expected` is the official figure averaged over the guesses of the official scorer.
    """
    figures = _figures(scored.items, scored.scale, seed)
    parts = {name: _figures(_part(scored.items, index), scored.scale, seed)
             for index, name in enumerate(scored.parts)}  # fmt: skip
    absent = scored.absent or _absence(scored, rows, parts)
    if absent:
        figures |= {"official": None, "interval": None, "expected": None, "official_absent": absent}
    if scored.absent:
        figures |= {"strict": None, "strict_interval": None}
    ratios = {name: part["official"] / scored.scale for name, part in parts.items()
              if part["official"] is not None}  # fmt: skip
    complete = all(item.official is not None for item in scored.items)
    return {
        **figures,
        "parts": parts if len(parts) > 1 or scored.absent else {},
        "official_result": scored.official_result(ratios) if complete else None,
    }


def _absence(scored: Scored, rows: Sequence[Response], parts: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why the official script would give no figure."""
    raised = [(row, item.error) for row, item in zip(rows, scored.items, strict=True) if item.error]
    if raised:
        row, error = raised[0]
        return f"the official scorer raises {error} on {row.path} line {row.line}, and on {len(raised)} rows in all"
    empty = [name for name, part in parts.items() if part["official"] is None]
    return f"nothing finite to count for {', '.join(empty)}" if empty else None


def _figures(items: Sequence[Item], scale: float, seed: int) -> dict[str, Any]:
    strict = figure([item.strict for item in items], scale, seed)
    official = [item.official for item in items if item.official is not None]
    found = figure(official, scale, seed) if len(official) == len(items) else None
    expected = [item.expected or item.official or () for item in items]
    num_fallbacks = sum(item.fallbacks for item in items)
    return {
        "official": found and found.value,
        "interval": found and found.interval,
        "strict": strict.value,
        "strict_interval": strict.interval,
        "expected": found and figure(expected, scale, seed).value,
        "n": len(items),
        "fallbacks": num_fallbacks,
        "fallback_share": num_fallbacks / len(items) if items else 0.0,
    }


def _part(items: Sequence[Item], index: int) -> list[Item]:
    """The items of one part, with its ratios alone, and with fallbacks only where they matter to it."""
    part = []
    for item in items:
        if item.strict[index][1] > 0:
            strict = (item.strict[index],)
            official = item.official and (item.official[index],)
            expected = item.expected and (item.expected[index],)
            matter = any(ratios != strict for ratios in (official, expected or official))
            part.append(replace(item, strict=strict, official=official, expected=expected,
                                fallbacks=item.fallbacks if matter else 0))  # fmt: skip
    return part
