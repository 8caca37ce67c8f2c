"""From what each item got to a column's figures: two counts of it, the share of guesses, bootstrap intervals.

A part is a ratio of two sums over the items (right answers over answers, points over judgements); a column is the
plain mean of its parts: SD-QA has two, IFEval four, AIR-Bench Foundation six, the others one.

Letters: N items, P parts, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ratio = tuple[float, float]
Floats = NDArray[np.float64]

NOTHING: Ratio = (0.0, 0.0)
_RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)


def share(right: bool) -> Ratio:
    """An answer that counts once."""
    return float(right), 1.0


@dataclass(frozen=True)
class Item:
    """What one row got, a ratio for each part.

    `fields` is what the official scorer says of the row. `strict` counts a failure to parse as a wrong answer (a
    judgement: as the lowest mark), where `official` guesses, leaves out, or does not exist because the official
    scorer raises `error`. `expected` is `official` averaged over the guesses, where that is known.
    """

    fields: dict[str, Any]
    strict: tuple[Ratio, ...]
    official: tuple[Ratio, ...] | None
    expected: tuple[Ratio, ...] | None = None
    fallbacks: int = 0  # answers that could not be parsed
    error: str | None = None


def failed(
    error: str, strict: tuple[Ratio, ...], fields: dict[str, Any] | None = None, fallbacks: int = 0
) -> Item:
    """A row on which the official scorer raises `error`."""
    return Item(fields or {"error": error}, strict, None, fallbacks=fallbacks, error=error)


@dataclass(frozen=True)
class Figure:
    """A mean of ratios with its 95 % interval; None where a part has nothing to count, or no finite sum."""

    value: float | None
    interval: tuple[float, float] | None


def figure(ratios: Sequence[tuple[Ratio, ...]], scale: float, seed: int) -> Figure:
    """`scale` times the mean of the parts; the interval is that of the percentile bootstrap over items.

    Args:
        ratios: N items, each with P numerators and denominators.
        scale: 100 for percentages.
        seed: of the resampling.
    """
    if not ratios:
        return Figure(None, None)
    sums = np.asarray(ratios, dtype=np.float64)  # (N, P, 2)
    with np.errstate(over="ignore", invalid="ignore"):  # a judge may give inf, or 1e308
        value = float(_parts(sums.sum(axis=0)).mean()) * scale
        bound = np.abs(sums).sum() * len(sums)  # no resample comes to more
    if not np.isfinite([value, bound]).all():
        return Figure(None, None)
    num_items = len(sums)
    draws = np.random.default_rng(seed).multinomial(num_items, np.full(num_items, 1 / num_items), _RESAMPLES)
    resampled = np.einsum("bn,npk->bpk", draws.astype(np.float64), sums, optimize=True)
    # A resample without any item of a small part has no value.
    low, high = np.nanpercentile(_parts(resampled).mean(axis=-1), _PERCENTILES) * scale
    return Figure(value, (float(low), float(high)))


def _parts(sums: Floats) -> Floats:
    """(..., P, 2) sums to (..., P) ratios, NaN where nothing was counted."""
    counted = sums[..., 1] > 0
    return np.where(counted, sums[..., 0] / np.where(counted, sums[..., 1], 1.0), np.nan)
