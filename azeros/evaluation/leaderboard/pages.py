"""leaderboard.md and leaderboard.html: the same tables and notes, the latter a page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from azeros.errors import BenchmarkError
from azeros.evaluation.leaderboard import comparability
from azeros.evaluation.leaderboard.results import OURS, Cell, Row, published_rows

_TITLES = {"voicebench": "VoiceBench", "airbench": "AIR-Bench"}
_HEADS = {
    "alpacaeval": "AlpacaEval", "commoneval": "CommonEval", "wildvoice": "WildVoice", "sdqa": "SD-QA", "bbh": "BBH",
    "advbench": "AdvBench", "ifeval": "IFEval", "obqa": "OBQA", "mmsu": "MMSU", "lid": "LID",
}  # fmt: skip
_ABSENT = "absent"
_INTRO = (
    "Official figures; below them the 95 % bootstrap interval, and the strict figure where it differs (a response that"
    " cannot be parsed is a wrong answer). The best of a column is bold, systems aside that were not asked the whole"
    " data, and figures of which nobody knows it. An absent figure was not measured or not published; it is no zero, and there is no total without it."
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; color: #1c1c1c; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
tr.ours { background: #eef5ff; } small { display: block; color: #555; } .absent { color: #999; font-style: italic; }
"""


@dataclass(frozen=True)
class _Shown:
    """A cell as it is printed."""

    figure: str
    is_best: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Table:
    title: str
    columns: list[str]
    rows: list[tuple[Row, list[_Shown]]]
    lists: dict[str, list[str]]  # heading -> lines


def write_pages(ours: Sequence[Row], folder: Path) -> list[Path]:
    """Write both pages to `folder`, and say where they are.

    Raises:
        BenchmarkError: they cannot be written.
    """
    published = published_rows()
    tables = []
    for benchmark, title in _TITLES.items():
        others = [row for row in published if row.benchmark == benchmark]
        measured = [row for row in ours if row.benchmark == benchmark]
        tables.append(_table(title, list(others[0].cells), [*measured, *others]))
    pages = {"leaderboard.md": _markdown(tables), "leaderboard.html": _html(tables)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in pages.items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"{folder}: {error.strerror}; give another folder for the report") from error
    return [folder / name for name in pages]


def _table(title: str, columns: list[str], rows: list[Row]) -> _Table:
    given = {
        column: [
            cell.official
            for row in rows
            if (cell := row.cells.get(column)) and cell.official is not None and _competes(row, cell)
        ]
        for column in columns
    }
    best = {column: round(max(values), 2) for column, values in given.items() if values}
    shown = [
        (
            row,
            [
                _show(cell, best.get(column) if cell and _competes(row, cell) else None)
                for column in columns
                for cell in (row.cells.get(column),)
            ],
        )
        for row in rows
    ]
    ours = [row for row in rows if row.source == OURS]
    reasons = [
        f"{row.system}, {_head(column)}: {cell.absent}"
        for row in ours
        for column, cell in row.cells.items()
        if cell.absent
    ]
    lists = {
        "Comparability": [comparability.line(*pair) for pair in comparability.pairs(rows)],
        "Recovery of the text ceiling": _recovery(ours, columns),
        "Absent": reasons,
        "Left out": [f"{row.system}, {why}" for row in ours for why in row.left_out],
    }
    return _Table(title, [_head(column) for column in columns], shown, {k: v for k, v in lists.items() if v})


def _show(cell: Cell | None, best: float | None) -> _Shown:
    if cell is None or cell.official is None:
        strict = () if cell is None or cell.strict is None else (f"strict {cell.strict:.2f}",)
        return _Shown(_ABSENT, False, strict)
    notes = [f"[{cell.interval[0]:.2f}, {cell.interval[1]:.2f}]"] if cell.interval else []
    if cell.strict is not None and round(cell.strict, 2) != round(cell.official, 2):
        notes.append(f"strict {cell.strict:.2f}")
    return _Shown(f"{cell.official:.2f}", round(cell.official, 2) == best, tuple(notes))


def _recovery(ours: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Of what a system reaches that reads the transcript, the share that each other reaches by hearing."""
    lines = []
    for ceiling in (row for row in ours if row.modality == "text"):
        for row in (row for row in ours if row.modality == "audio"):
            shares = [
                f"{_head(column)} {100 * heard.official / read.official:.1f} %"
                for column in columns
                if (heard := row.cells.get(column)) and (read := ceiling.cells.get(column))
                and heard.official is not None and read.official
            ]  # fmt: skip
            lines.append(f"{row.system} of {ceiling.system}: {', '.join(shares) or 'no common column'}")
    return lines


def _head(column: str) -> str:
    return _HEADS.get(column, column.capitalize())


def _is_part(row: Row) -> bool:
    """Its figures are of a part of the rows, or of other ones: they stand in no contest."""
    return row.terms.is_complete is False


def _competes(row: Row, cell: Cell) -> bool:
    return not _is_part(row) and bool(cell.is_complete)


def _source(row: Row) -> str:
    if row.source == OURS:
        return f"{OURS}, not the whole data" if _is_part(row) else OURS
    return f"published, {row.source}"


def _markdown(tables: Sequence[_Table]) -> str:
    lines = ["# Leaderboard", "", _INTRO]
    for table in tables:
        lines += ["", f"## {table.title}", "", f"| System | Source | {' | '.join(table.columns)} |"]
        lines.append(f"|---|---|{'---:|' * len(table.columns)}")
        for row, cells in table.rows:
            texts = (
                "<br>".join([f"**{cell.figure}**" if cell.is_best else cell.figure, *cell.notes])
                for cell in cells
            )
            lines.append(f"| {row.system.replace('|', '&#124;')} | {_source(row)} | {' | '.join(texts)} |")
        for heading, notes in table.lists.items():
            lines += ["", f"### {heading}", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _html(tables: Sequence[_Table]) -> str:
    body = [f"<h1>Leaderboard</h1><p>{html.escape(_INTRO)}</p>"]
    for table in tables:
        heads = "".join(f"<th>{html.escape(name)}</th>" for name in ("System", "Source", *table.columns))
        body.append(f'<h2>{table.title}</h2><div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>')
        for row, cells in table.rows:
            kind = ' class="ours"' if row.source == OURS else ""
            names = f"<td>{html.escape(row.system)}</td><td>{html.escape(_source(row))}</td>"
            body.append(f"<tr{kind}>{names}{''.join(map(_html_cell, cells))}</tr>")
        body.append("</tbody></table></div>")
        for heading, notes in table.lists.items():
            items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
            body.append(f"<h3>{heading}</h3><ul>{items}</ul>")
    head = f'<meta charset="utf-8"><title>Leaderboard</title><style>{_STYLE}</style>'
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _html_cell(cell: _Shown) -> str:
    figure = f"<b>{cell.figure}</b>" if cell.is_best else cell.figure
    notes = "".join(f"<small>{html.escape(note)}</small>" for note in cell.notes)
    kind = ' class="absent"' if cell.figure == _ABSENT else ""
    return f"<td{kind}>{figure}{notes}</td>"
