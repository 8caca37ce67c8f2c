"""What prepare made of a corpus, counted: for DVC and MLflow as JSON, for people as tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from azeros.data.recipes import Reject

_COUNTED_BY = ("split", "language", "gender", "age_group", "emotion")
_UNKNOWN = "unknown"
_SECONDS_PER_HOUR = 3600
# Upper ends in seconds; training keeps 1 to 30 s.
_DURATIONS_S = (1, 2, 3, 5, 8, 12, 20, 30)
DURATIONS = (*(f"up to {end}" for end in _DURATIONS_S), f"over {_DURATIONS_S[-1]}")


@dataclass
class Report:
    """What came in, what went out, and why the rest did not."""

    name: str
    paper_hours: Mapping[str, float]
    """Of the paper's training set, by language; empty for a corpus that is not in it."""
    rejected: Counter[str] = field(default_factory=Counter)
    num_expected: int = 0
    """Of the rejects, those that the corpus is known to have or an option asks for."""
    utterances: dict[str, Counter[str]] = field(
        default_factory=lambda: {key: Counter() for key in _COUNTED_BY}
    )
    seconds: dict[str, dict[str, float]] = field(
        default_factory=lambda: {key: defaultdict(float) for key in _COUNTED_BY}
    )
    durations: Counter[int] = field(default_factory=Counter)
    """Utterances by the place of their duration among `DURATIONS`."""

    @property
    def rows_in(self) -> int:
        """Rows that the recipe found."""
        return self.rows_out + self.rejected.total()

    @property
    def rows_out(self) -> int:
        """Utterances in the manifests."""
        return self.utterances["split"].total()

    @property
    def num_faults(self) -> int:
        """Rejects that nobody expected."""
        return self.rejected.total() - self.num_expected

    @property
    def hours(self) -> float:
        """Of sound in the manifests."""
        return self._hours("split")

    def _hours(self, key: str, label: str | None = None) -> float:
        seconds = self.seconds[key]
        return round((sum(seconds.values()) if label is None else seconds[label]) / _SECONDS_PER_HOUR, 6)

    def _durations(self) -> list[tuple[str, int]]:
        return [(label, self.durations[place]) for place, label in enumerate(DURATIONS)]

    def count(self, cut: Cut, split: str) -> None:
        """Add an utterance of the manifest of `split`."""
        said = cut.supervisions[0]
        custom = said.custom or {}
        labels = {
            "split": split,
            "language": said.language,
            "gender": said.gender,
            "age_group": custom.get("age_group"),
            "emotion": custom.get("emotion"),
        }
        for key, label in labels.items():
            self.utterances[key][label or _UNKNOWN] += 1
            self.seconds[key][label or _UNKNOWN] += cut.duration
        self.durations[sum(cut.duration > end for end in _DURATIONS_S)] += 1

    def reject(self, reject: Reject) -> None:
        """Add a row that is not in the manifests."""
        self.rejected[reject.reason] += 1
        self.num_expected += reject.expected

    def to_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rejected": dict(self.rejected),
            "hours": self.hours,
            "by": {
                key: {
                    label: {"utterances": count, "hours": self._hours(key, label)}
                    for label, count in counts.items()
                }
                for key, counts in self.utterances.items()
            },
            "utterances_by_duration": dict(self._durations()),
        } | ({"paper_hours": dict(self.paper_hours)} if self.paper_hours else {})

    def to_markdown(self) -> str:
        """For report.md."""
        parts = [f"# {self.name}\n\n{self.rows_out} of {self.rows_in} rows, {self.hours:.2f} h.\n"]
        if self.paper_hours:
            parts.append(f"The paper trains on {sum(self.paper_hours.values()):g} h of it.\n")
        for key, counts in self.utterances.items():
            header = [key.replace("_", " "), "utterances", "hours"]
            rows = [
                [label, str(count), f"{self._hours(key, label):.2f}"] for label, count in counts.most_common()
            ]
            if key == "language" and self.paper_hours:
                header.append("hours in the paper")
                rows = [[*row, _shown(self.paper_hours.get(row[0]))] for row in rows]
            parts.append(table(header, rows))
        parts.append(table(["seconds", "utterances"], self._durations()))
        parts.append(table(["rejected", "rows"], self.rejected.most_common() or [["none", 0]]))
        return "\n".join(parts)

    def summary(self) -> str:
        """In one line."""
        parts = [f"{self.utterances['split'][split]} {split}" for split in ("train", "validation", "test")]
        rejects = "".join(f"; {count} rejected: {reason}" for reason, count in self.rejected.most_common())
        return f"{self.rows_out} of {self.rows_in} rows, {self.hours:.2f} h ({', '.join(parts)}){rejects}"


def _shown(hours: float | None) -> str:
    return "" if hours is None else f"{hours:g}"


def table(header: list[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown, all columns but the first to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *([str(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
