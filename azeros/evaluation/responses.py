"""Response files in the official layout: one JSON object a line (or one JSON list), a row of the data set each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from azeros.errors import BenchmarkError
from azeros.work import write_text

Benchmark = Literal["voicebench", "airbench"]

# Fields that the system under test or its judge added to a row of the data set; `error` says why a response is null.
ADDED_FIELDS = {"response", "error", "score", "gpt-score"}


@dataclass(frozen=True)
class Response:
    """One row of a response file, and where it stands."""

    path: Path
    line: int
    fields: Mapping[str, Any]

    def text(self, field: str) -> str:
        """The string in `field`.

        Raises:
            BenchmarkError: there is no such field, or it holds something else.
        """
        return self._typed(field, str, "a string")

    def texts(self, field: str) -> list[str]:
        """The list of strings in `field`; raises as `text` does."""
        texts = self.array(field)
        if not all(isinstance(text, str) for text in texts):
            raise self.error(f"field '{field}' is {texts}, not a list of strings")
        return texts

    def array(self, field: str) -> list[Any]:
        """The list in `field`; raises as `text` does."""
        return self._typed(field, list, "a list")

    def _typed(self, field: str, kind: type, name: str) -> Any:
        if field not in self.fields:
            raise self.error(f"no field '{field}'; it has {', '.join(self.fields) or 'none'}")
        if not isinstance(self.fields[field], kind):
            raise self.error(f"field '{field}' is {json.dumps(self.fields[field])[:80]}, not {name}")
        return self.fields[field]

    def error(self, problem: str) -> BenchmarkError:
        """An error that names the file and the line."""
        return BenchmarkError(f"{self.path}: line {self.line}: {problem}")


def read_responses(path: Path) -> list[Response]:
    """Every row of `path`.

    Raises:
        BenchmarkError: the file is missing, empty, not JSON, ends within a line, or holds each row twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BenchmarkError(f"{path}: {error.strerror}; give a file of responses") from error
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path}: not UTF-8 at byte {error.start}; convert it") from error
    rows = list(_rows_of_list(path, text) if text.lstrip().startswith("[") else _rows_of_lines(path, text))
    if not rows:
        raise BenchmarkError(f"{path}: no rows; give a file of responses")
    copies = min(Counter(_key(row.fields) for row in rows).values())
    if copies > 1:
        raise BenchmarkError(
            f"{path}: every row stands in it {copies} times, first in line {rows[0].line}; keep one copy of each"
        )
    return rows


def _rows_of_lines(path: Path, text: str) -> Iterator[Response]:
    # Not splitlines(), which also cuts at U+2028 and other characters that may stand in a JSON string.
    for line, row in enumerate(text.split("\n"), 1):
        if not row.strip():
            continue
        try:
            fields = json.loads(row)
        except json.JSONDecodeError as error:
            raise BenchmarkError(
                f"{path}: line {line}: not a JSON object ({error.msg} at character {error.pos + 1});"
                " if the run was killed in the middle of it, remove the line and generate it again"
            ) from error
        yield _response(path, line, fields)


def _rows_of_list(path: Path, text: str) -> Iterator[Response]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise BenchmarkError(
            f"{path}: line {error.lineno}: not a JSON list ({error.msg}); is it complete?"
        ) from error
    for index, fields in enumerate(rows, 1):
        yield _response(path, index, fields)


def _response(path: Path, line: int, fields: object) -> Response:
    if not isinstance(fields, dict):
        raise BenchmarkError(
            f"{path}: line {line}: {json.dumps(fields)[:80]} is not a JSON object; correct it"
        )
    return Response(path, line, fields)


def write_responses(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows that `read_responses` reads; `path` holds either its old content or all of the new.

    Raises:
        BenchmarkError: it cannot be written.
    """
    try:
        write_text(path, "".join(map(to_line, rows)))
    except OSError as error:
        raise BenchmarkError(f"{path}: {error.strerror}; give another output") from error


def to_line(row: Mapping[str, Any]) -> str:
    """A row as the official scripts write it."""
    return json.dumps(row) + "\n"


def count_repeats(rows: Iterable[Mapping[str, Any]]) -> int:
    """How many rows ask what an earlier row asked, whatever the answers."""
    asked = ({k: v for k, v in row.items() if k not in ADDED_FIELDS} for row in rows)
    counts = Counter(_key(fields) for fields in asked if fields)
    return counts.total() - len(counts)


def _key(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True)
