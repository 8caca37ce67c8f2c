"""Finding and reading the files of a corpus, for the recipes."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from azeros.data.labels import emotion_of
from azeros.data.recipes import BadRow, Reject
from azeros.errors import CorpusError

if TYPE_CHECKING:
    from _csv import Reader as _Reader

logger = logging.getLogger(__name__)

# What corpora call their splits.
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
# What most of them ship, under these names.
OFFICIAL_SPLITS = ("train", "dev", "test")


def find(root: Path, *names: str) -> Path:
    """The first of `names` (paths, with wildcards) in `root` or at most two folders below it.

    Raises:
        CorpusError: there is none.
    """
    found = find_optional(root, *names)
    if found is None:
        hint = "correct the path" if root.is_dir() else "there is no such folder"
        raise CorpusError(
            f"{root}: no {' or '.join(names)} in it; {hint}, or fetch and unpack the corpus again"
        )
    return found


def find_optional(root: Path, *names: str) -> Path | None:
    """As `find`, or None where there is nothing of that name."""
    for prefix in ("", "*/", "*/*/"):
        for name in names:
            found = sorted(path for path in root.glob(prefix + name) if not is_hidden(path))
            if found:
                return found[0]
    return None


def is_hidden(path: Path) -> bool:
    """Whether a file is one that macOS and editors leave behind (`._name`)."""
    return path.name.startswith(".")


def files_by_stem(root: Path, *suffixes: str) -> tuple[dict[str, Path], list[Reject]]:
    """The files below `root` in order of their names, and those whose name came before, as mirrors nest them.

    Of equal names the one nearest to `root` counts, and of equally near ones that of the earlier suffix.
    """
    found = [p for p in root.rglob("*") if p.suffix.lower() in suffixes and not is_hidden(p)]
    found.sort(key=lambda path: (len(path.parts), suffixes.index(path.suffix.lower()), path))
    files: dict[str, Path] = {}
    copies = []
    for path in found:
        kept = files.setdefault(path.stem, path)
        if kept is not path:
            detail = f"{path}: the same name as {kept}, which is used"
            copies.append(
                Reject(path.relative_to(root).as_posix(), "copy of a recording", detail, expected=True)
            )
    return dict(sorted(files.items())), copies


@dataclass(frozen=True)
class TableRow:
    """One row of a table; missing fields read as empty."""

    where: str  # file and line
    fields: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.fields.get(column, "")


def read_table(
    path: Path, required: Iterable[str], *, delimiter: str = ",", quoted: bool = True, text: str | None = None
) -> Iterator[TableRow | Reject]:
    """The rows of a table with a header, all fields stripped; rows with too many fields are rejects.

    Args:
        path: the file, in UTF-8.
        required: columns without which the table is of no use.
        delimiter: between the fields.
        quoted: whether quotation marks quote, or are part of the text.
        text: the content of the file, where it is already read.

    Raises:
        CorpusError: no such file, not UTF-8, or a required column missing.
    """
    lines = io.StringIO(text, newline="") if text is not None else read_lines(path)
    reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    columns = [name.strip() for name in next(reader, [])]
    missing = [name for name in required if name not in columns]
    if missing:
        raise CorpusError(
            f"{path}: no column {' and '.join(missing)}; its first line names {', '.join(columns)}"
        )
    for values in _checked(path, reader):
        where = f"{path}:{reader.line_num}"
        if len(values) > len(columns) and any(value.strip() for value in values[len(columns) :]):
            detail = f"{where}: {len(values)} fields where the first line has {len(columns)}"
            yield Reject(f"{path.name}:{reader.line_num}", "malformed row", detail)
        elif any(value.strip() for value in values):
            yield TableRow(where, dict(zip(columns, map(str.strip, values), strict=False)))


def read_facts(
    path: Path, required: Iterable[str], *, delimiter: str = ",", quoted: bool = True
) -> Iterator[TableRow]:
    """As `read_table`, for a table that tells more about rows of another one: says which rows it cannot use."""
    for row in read_table(path, required, delimiter=delimiter, quoted=quoted):
        if isinstance(row, TableRow):
            yield row
        else:
            logger.warning("%s: %s; the row is not used", row.reason, row.detail)


def _checked(path: Path, reader: _Reader) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise CorpusError(
            f"{path}: not a table after line {reader.line_num} ({error}); fetch it again"
        ) from error


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file.

    Raises:
        CorpusError: no such file, or not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from stream
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text ({error.reason}); fetch it again") from error
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}; fetch and unpack the corpus again") from error


def missing_audio(id: str, path: Path) -> BadRow:
    """For a row whose recording is not there."""
    return BadRow(id, "audio missing", f"{path}: named in the metadata, but there is no such file")


def read_emotion(id: str, where: str, raw: object) -> str | None:
    """As `emotion_of`; a word that is in none of the vocabularies is the fault of the row.

    Raises:
        BadRow: `raw`, which stands at `where`, is such a word.
    """
    try:
        return emotion_of(raw)
    except ValueError as error:
        raise BadRow(id, "unknown emotion", f"{where}: {error}") from error


def splits_on_disk(root: Path, wanted: Sequence[str], files: Mapping[str, Path | None]) -> dict[str, Path]:
    """The files of a corpus's own splits that are of the `wanted` ones; says which are not there.

    Raises:
        CorpusError: none of them is there.
    """
    asked = {name: path for name, path in files.items() if SPLITS[name] in wanted}
    there = {name: path for name, path in asked.items() if path is not None}
    if not there:
        raise CorpusError(
            f"{root}: no {' or '.join(asked)} split in it; unpack the corpus, or correct splits"
        )
    if absent := asked.keys() - there.keys():
        logger.warning("%s: no %s split in it", root, " and no ".join(sorted(absent)))
    return there
