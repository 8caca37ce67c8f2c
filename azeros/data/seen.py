"""Keys that came before, for finding what comes twice among millions."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Self


class Seen:
    """Keys, each with what it came with first, in a temporary file: memory stays the same however many there are.

    The file has no name, so that a kill leaves none; SQLite makes it in SQLITE_TMPDIR, or else in /var/tmp.
    """

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("pragma journal_mode = off")
        self._file.execute("create table seen (key primary key, first) without rowid")
        self._file.execute("begin")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._file.close()

    def first(self, key: str | bytes, value: str = "") -> str | None:
        """What `key` came with the first time; None if this is the first, with `value`."""
        if self._file.execute("insert or ignore into seen values (?, ?)", (key, value)).rowcount:
            return None
        (found,) = self._file.execute("select first from seen where key = ?", (key,)).fetchone()
        return str(found)
