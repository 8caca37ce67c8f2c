"""What decoding has told about a corpus's recordings so far: a prepare that was killed goes on after the last of them."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from azeros.data.audio import AudioInfo, Part
from azeros.data.recipes import Reject, Utterance

_FLUSH_EVERY = 100  # recordings that a kill may cost

Finding = AudioInfo | Reject


class Journal:
    """A file with one line a recording, in the order of the rows.

    It is replayed as long as rows and files are those of the run before; from the first difference on it is
    forgotten. All rows are recalled before any is noted that was not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a+b")
        self._file.seek(0)
        self._replaying = True
        self._num_noted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Close the file, which has served its purpose unless the block failed."""
        self._file.close()
        if kind is None:
            self._path.unlink()

    def recall(self, row: Utterance) -> Finding | None:
        """What the run before found in the recording of `row`, or None."""
        if not self._replaying:
            return None
        place = self._file.tell()
        finding = _parse(self._file.readline(), _identity(row))
        if finding is None:
            self._replaying = False
            self._file.seek(place)
            self._file.truncate()
        return finding

    def note(self, row: Utterance, finding: Finding) -> None:
        """Keep what was found in the recording of `row`, which `recall` did not know."""
        value = list(vars(finding).values())
        self._file.write((json.dumps([_identity(row), value], ensure_ascii=False) + "\n").encode())
        self._num_noted += 1
        if self._num_noted % _FLUSH_EVERY == 0:
            self._file.flush()


def _identity(row: Utterance) -> list[Any]:
    """Equal for the same part of the same unchanged file."""
    if isinstance(row.audio, Part):
        return [row.id, str(row.audio), row.start_s, row.duration_s, zlib.crc32(row.audio.content)]
    assert isinstance(row.audio, Path)
    try:
        status = row.audio.stat()
        stamp = [status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):  # a ValueError for a name that no file can have
        stamp = []
    return [row.id, str(row.audio), row.start_s, row.duration_s, *stamp]


def _parse(line: bytes, identity: list[Any]) -> Finding | None:
    try:
        noted, value = json.loads(line)
    except ValueError:  # the end of the file, or what a kill left of a line
        return None
    if noted != identity:
        return None
    return Reject(*value) if isinstance(value[0], str) else AudioInfo(*value)
