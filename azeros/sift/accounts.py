"""What became of each row: counted while targets are made, checked against the files at the end."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.data.manifests import read_cuts
from azeros.errors import StageError
from azeros.sift.prompts import has_unreadable_age
from azeros.sift.selection import Rejected

if TYPE_CHECKING:
    from azeros.sift.targets import Target


@dataclass
class Accounts:
    """Counts of one set of targets."""

    rows_in: int = 0
    rows_out: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    response_tokens: int = 0
    duration_s: float = 0.0
    unreadable_ages: int = 0
    """Rows out whose age is given but is no number: nothing is said of it to the language model."""

    def add(self, outcome: Target | Rejected) -> None:
        """Count a row."""
        self.rows_in += 1
        if isinstance(outcome, Rejected):
            self.rejected[outcome.reason] += 1
            return
        self.rows_out += 1
        self.truncated += outcome.answer.finish_reason != "stop"
        self.response_tokens += outcome.answer.num_tokens
        self.duration_s += outcome.cut.duration
        self.unreadable_ages += has_unreadable_age(outcome.cut.supervisions[0])

    def to_dict(self) -> dict[str, Any]:
        """For report.json."""
        report = vars(self) | {"rejected": dict(self.rejected), "hours": round(self.duration_s / 3600, 6)}
        return {key: value for key, value in report.items() if key != "duration_s"}

    def rejections(self) -> str:
        """The reasons with their counts, most frequent first."""
        return ", ".join(f"{count} {reason}" for reason, count in self.rejected.most_common())


def check_rows(manifest: Path, targets: Path, rejects: Path) -> None:
    """Each row of `manifest` stands in `targets` or in `rejects`, in its order, once.

    Raises:
        StageError: one is missing, or there twice; it is named.
    """
    kept = (cut.id for cut in read_cuts(targets))
    with rejects.open(encoding="utf-8") as lines:
        left = (json.loads(line)["id"] for line in lines)
        next_kept, next_left = next(kept, None), next(left, None)
        for number, cut in enumerate(read_cuts(manifest), start=1):
            if cut.id == next_kept:
                next_kept = next(kept, None)
            elif cut.id == next_left:
                next_left = next(left, None)
            else:
                raise StageError(
                    f"{manifest}: row {number}, cut {cut.id}, has neither a target nor a reason why not; run it again"
                )
    for surplus in (next_kept, next_left):
        if surplus is not None:
            raise StageError(f"{manifest}: cut {surplus} has more than one outcome; run it again")
