"""Scores of single answers, and shares with their intervals."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from math import sqrt

_Z95 = 1.959964


def edit_distance(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> int:
    """Least number of insertions, deletions and substitutions that turn one into the other."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != heard))
    return row[-1]


def word_units(text: str) -> list[str]:
    """What word errors are counted in: words without punctuation, lower-cased; each CJK character alone."""
    return re.findall(
        r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]+",
        text.lower(),
    )


def names_label(answer: str, label: str, labels: Sequence[str]) -> bool:
    """Whether `answer` names `label` and none of the other `labels`, as whole words."""
    named = {
        other
        for other in labels
        if re.search(rf"(?<![a-z]){re.escape(other.lower())}(?![a-z])", answer.lower())
    }
    return named == {label}


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) when nothing was counted."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = hits / total, _Z95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 * sqrt(share * (1 - share) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    # The share itself is in it, whatever rounding does to the ends at 0 and 1.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
