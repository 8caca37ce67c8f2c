"""The rows of a benchmark's set as they are asked about, and a check that all of them are there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.errors import BenchmarkError
from azeros.evaluation.responses import Benchmark, count_repeats

if TYPE_CHECKING:
    from azeros.evaluation.systems.base import Request


@dataclass(frozen=True)
class Sample:
    """One row: what is asked, and the row of the official response file that a response makes."""

    request: Request
    result_row: Callable[[str | None], dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """A split or a task of a set: how many rows are there, and how many there should be, where that is known."""

    name: str
    num_rows: int
    num_silent: int  # rows whose recording is missing; they are left out, as the official scripts do
    num_official: int | None

    @property
    def is_complete(self) -> bool | None:
        """Whether all rows are there with their recordings; None where nobody says how many there should be."""
        if self.num_silent or not self.num_rows:
            return False
        return None if self.num_official is None else self.num_rows == self.num_official


@dataclass(frozen=True)
class SampleSet:
    """A set in the order of the data."""

    benchmark: Benchmark
    subset: str
    split: str  # as the official name of a response file has it
    samples: list[Sample]
    parts: list[Part]

    @property
    def is_complete(self) -> bool | None:
        """Whether it is the set of the protocol; None where that is not known."""
        told = {part.is_complete for part in self.parts}
        return False if False in told else None if None in told else True

    @property
    def num_repeated(self) -> int:
        """How many rows ask what an earlier row asked."""
        return count_repeats(sample.result_row(None) for sample in self.samples)

    def fingerprint(self) -> str:
        """SHA-256 of all rows and of the sizes of their recordings."""
        digest = hashlib.sha256()
        for sample in self.samples:
            row = [sample.result_row(None), sample.request.recording.num_bytes]
            digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        return digest.hexdigest()

    def counts(self) -> list[str]:
        """A line for each part, for a terminal."""
        width = max(len(part.name) for part in self.parts)
        lines = [f"{'':<{width}}  rows  official  without recording"]
        for part in self.parts:
            official = "?" if part.num_official is None else part.num_official
            lines.append(f"{part.name:<{width}} {part.num_rows:>5} {official:>9} {part.num_silent:>18}")
        return lines


def load_samples(benchmark: Benchmark, subset: str, data: Path, partial: bool) -> SampleSet:
    """The set `subset` from the local folder `data`.

    Args:
        benchmark: voicebench or airbench.
        subset: a set by its official name; of AIR-Bench foundation or chat.
        data: the data set's folder as its authors publish it.
        partial: take what there is of it.

    Raises:
        BenchmarkError: no such set, it is not in `data`, or only a part of it is and `partial` does not say that it may.
    """
    if benchmark == "voicebench":
        from azeros.evaluation.voicebench.data import read_set
    else:
        from azeros.evaluation.airbench.data import read_set
    found = read_set(subset, data)
    if not found.samples:
        raise BenchmarkError(f"{data}: no row of {subset} with its recording; fetch the data again")
    if not partial:
        _check_complete(found.parts, data)
    return found


def _check_complete(parts: Sequence[Part], data: Path) -> None:
    faults = [part for part in parts if part.is_complete is False]
    if faults:
        told = "; ".join(
            f"{part.name} has {part.num_rows} of {part.num_official or '?'} rows and {part.num_silent} without recording"
            for part in faults
        )
        raise BenchmarkError(
            f"{data}: not the data that published figures are of: {told}; fetch it again, or say --partial"
        )
