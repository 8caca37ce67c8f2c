"""What `azeros benchmark run`, `azeros judge` and `azeros score` have left in a folder: one row a system and benchmark.

RESULTS/SYSTEM/ holds *.run.json, and the JSON that judge and score print, under any names that end in .json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

from azeros.errors import BenchmarkError
from azeros.evaluation.published import (
    AIRBENCH_FACTORS,
    VOICEBENCH_FACTORS,
    airbench_average,
    load_published,
    voicebench_overall,
)

# Set of VoiceBench -> column of the tables.
_COLUMNS = {
    "alpacaeval_full": "alpacaeval", "commoneval": "commoneval", "wildvoice": "wildvoice", "sd-qa": "sdqa", "bbh": "bbh",
    "advbench": "advbench", "ifeval": "ifeval", "openbookqa": "obqa", "mmsu": "mmsu",
}  # fmt: skip
_TOTALS = {
    "voicebench": ("overall", voicebench_overall, VOICEBENCH_FACTORS),
    "airbench": ("avg", airbench_average, AIRBENCH_FACTORS),
}
_NO_COLUMN = f"the table has no column for it; it has those of {', '.join(_COLUMNS)}"
OURS = "ours"


@dataclass(frozen=True)
class Cell:
    """A figure of one column; None where there is none, and `absent` says why if we know."""

    official: float | None
    strict: float | None = None
    interval: tuple[float, float] | None = None
    absent: str | None = None
    is_complete: bool | None = None  # of all rows of the set, each once; None where nobody knows


@dataclass
class Terms:
    """Under what a row's figures came to be; None where nobody says."""

    judge: str | None = None
    decoding: str | None = None
    budget: str | None = None
    data: dict[str, str] = field(default_factory=dict)  # set -> SHA-256
    is_complete: bool | None = None


@dataclass
class Row:
    """A system's figures in one benchmark."""

    benchmark: str
    source: str  # OURS, or a source of published.yaml
    system: str
    cells: dict[str, Cell]
    terms: Terms
    modality: str | None = None
    left_out: list[str] = field(default_factory=list)  # what was scored and stands in no contest, and why


def read_results(folder: Path) -> list[Row]:
    """Our rows, by system.

    Raises:
        BenchmarkError: there are none, a file is not JSON, or two files score the same set of a system.
    """
    rows: dict[tuple[str, str], Row] = {}
    documents = list(_documents(folder))
    repeats = {
        (path.parent.name, document["benchmark"], document["subset"]): document.get("repeated")
        for path, document in documents
        if "identity" in document
    }
    for path, document in documents:
        if "official" in document and "subset" in document:
            key = (path.parent.name, document["benchmark"])
            row = rows.setdefault(key, Row(key[1], OURS, key[0], {}, Terms()))
            is_complete, why = _completeness(document, repeats.get((*key, document["subset"])))
            cells = _cells(document, is_complete)
            if why or not cells:
                row.left_out.append(f"{document['subset']}: {why or _NO_COLUMN}")
            if twice := cells.keys() & row.cells.keys():
                raise BenchmarkError(
                    f"{path}: {key[0]} has another file with {', '.join(sorted(twice))}; keep one"
                )
            row.cells |= cells
            _join(
                row.terms,
                Terms(judge=_judge_of(path, document, documents), is_complete=is_complete),
            )
    if not rows:
        raise BenchmarkError(
            f"{folder}: nothing scored in it; write what azeros score prints to {folder}/SYSTEM/SET.json"
        )
    for path, document in documents:
        measured = rows.get((path.parent.name, document.get("benchmark", "")))
        if "identity" in document and measured:
            identity = document["identity"]
            measured.modality = document["modality"]
            measured.terms.data[document["subset"]] = document["data_sha256"]
            _join(
                measured.terms,
                Terms(
                    decoding=identity["decoding"],
                    budget=f"{identity['max_new_tokens']} tokens",
                    is_complete=document["complete"],
                ),
            )
    for row in rows.values():
        _add_total(row)
    return list(rows.values())


def published_rows() -> list[Row]:
    """The rows of published.yaml with what their sources say of their making."""
    return [
        Row(
            row.benchmark,
            row.source,
            row.system,
            {name: Cell(value, is_complete=True) for name, value in row.columns.items()},
            _published_terms(row.benchmark, row.source, row.system),
        )
        for row in load_published()
    ]


def _documents(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob("*/*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BenchmarkError(f"{path}: not JSON ({error}); write it again") from error
        if isinstance(document, dict):
            yield path, document


def _cells(score: Mapping[str, Any], is_complete: bool | None) -> dict[str, Cell]:
    if score["subset"] == "foundation":
        return {name: _cell(part, is_complete) for name, part in score["parts"].items()}
    column = "chat" if score["benchmark"] == "airbench" else _COLUMNS.get(score["subset"])
    return {column: _cell(score, is_complete)} if column else {}


def _cell(figures: Mapping[str, Any], is_complete: bool | None) -> Cell:
    interval = figures["interval"]
    return Cell(
        figures["official"],
        figures["strict"],
        interval and (interval[0], interval[1]),
        figures.get("official_absent"),
        is_complete,
    )


def _add_total(row: Row) -> None:
    name, total, factors = _TOTALS[row.benchmark]
    official = total({column: cell.official for column, cell in row.cells.items()})
    strict = total({column: cell.strict for column, cell in row.cells.items()})
    if official is None:
        row.cells[name] = Cell(official, strict)
        return
    cells = {column: row.cells[column] for column in factors}
    whole = all(cell.is_complete for cell in cells.values())
    row.cells[name] = Cell(official, strict, _total_interval(cells, factors), is_complete=whole or None)


def _total_interval(cells: Mapping[str, Cell], factors: Mapping[str, int]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of columns that are independent of each other: on either side, the squares of the
    distances from figure to bound add up (Zou & Donner 2008, MOVER)."""
    middle = below = above = 0.0
    for column, factor in factors.items():
        figure, interval = cells[column].official, cells[column].interval
        if figure is None or interval is None:
            return None
        middle += factor * figure
        below += (factor * (figure - interval[0])) ** 2
        above += (factor * (interval[1] - figure)) ** 2
    return (middle - sqrt(below)) / len(factors), (middle + sqrt(above)) / len(factors)


def _completeness(score: Mapping[str, Any], repeats_of_set: int | None) -> tuple[bool | None, str | None]:
    """Whether each row of the set was scored, None where that is not known, and what keeps us from saying yes."""
    wanted = score.get("num_rows_of_set")
    if wanted is None:
        return None, None
    repeated = score.get("repeated", repeats_of_set or 0)
    if score["n"] != wanted or repeated == (repeats_of_set or 0):
        return score["n"] == wanted, None
    why = f"{repeated} of its {score['n']} rows ask what an earlier one asked"
    if repeats_of_set is None:
        return None, f"{why}, and no run.json beside it says how many of the set do"
    return False, f"{why}, of the set {repeats_of_set}"


def _judge_of(
    path: Path, score: Mapping[str, Any], documents: list[tuple[Path, dict[str, Any]]]
) -> str | None:
    """Who judged the file that was scored, by what `azeros judge` printed: its label, and what answered to it."""
    for place, document in documents:
        if place.parent == path.parent and document.get("judged") == score["file"]:
            served = ", ".join(document["served_models"])
            return f"{document['model']} ({served})" if served else str(document["model"])
    return None


def _join(terms: Terms, more: Terms) -> None:
    """Add what is known of a further set; where sets differ both stand there."""
    for name in ("judge", "decoding", "budget"):
        known, found = getattr(terms, name), getattr(more, name)
        if found and found not in (known or "").split("; "):
            setattr(terms, name, f"{known}; {found}" if known else found)
    if more.is_complete is not None:
        terms.is_complete = more.is_complete and terms.is_complete is not False


def _published_terms(benchmark: str, source: str, system: str) -> Terms:
    """spec/BENCHMARKS.md 1.2, 1.3 and 2.3: settings of generation are published for VoiceBench's own runs and for AZeroS."""
    if source == "leaderboard":
        return Terms("gpt-4o-mini", budget="2048 tokens", is_complete=True)
    judge = {"voicebench": "gpt-4o-2025-01-01-preview", "airbench": "gpt-4-turbo-2025-01-01-preview"}[
        benchmark
    ]
    if "ours" in system:
        return Terms(judge, "greedy", "200 tokens", is_complete=True)
    return Terms(judge, is_complete=True)
