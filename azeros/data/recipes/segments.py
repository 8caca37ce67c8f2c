"""Long recordings with segments in one large JSON file, as WenetSpeech and GigaSpeech have them: read in a stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azeros.data.recipes import BadRow, Reject
from azeros.errors import CorpusError


@dataclass(frozen=True)
class Segment:
    """One entry of the list `segments` of a recording."""

    recording: Mapping[str, Any]
    """What the JSON file says about the recording, without its segments."""
    fields: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The segment's name, or what comes closest to one."""
        return str(self.fields.get("sid") or f"{self.recording.get('aid')}, a segment without sid")

    def require(self, *names: str) -> None:
        """Raise a BadRow unless these fields are there, a path of the recording, and times in order."""
        missing = [name for name in names if self.fields.get(name) is None]
        if not self.recording.get("path"):
            missing.append("path of its recording")
        if missing:
            raise BadRow(self.id, "malformed row", f"segment {self.id}: no {', '.join(missing)}")
        try:
            start_s, duration_s = self.start_s, self.duration_s
        except (TypeError, ValueError, OverflowError) as error:
            raise BadRow(
                self.id, "malformed row", f"segment {self.id}: its times are no numbers ({error})"
            ) from error
        if not (0 <= start_s < math.inf and 0 < duration_s < math.inf):
            raise BadRow(self.id, "malformed row", f"segment {self.id}: it ends before it begins")

    @property
    def subsets(self) -> list[Any]:
        """The subsets that it is in.

        Raises:
            BadRow: they are no list.
        """
        subsets = self.fields.get("subsets", [])
        if not isinstance(subsets, list):
            raise BadRow(self.id, "malformed row", f"segment {self.id}: subsets is {subsets!r}, not a list")
        return subsets

    @property
    def start_s(self) -> float:
        """Where the segment begins in its recording."""
        return float(self.fields["begin_time"])

    @property
    def duration_s(self) -> float:
        """How long the segment is."""
        return float(self.fields["end_time"]) - self.start_s


def read_segments(path: Path) -> Iterator[Segment | Reject]:
    """The segments of each recording in order, and what is none, as rejects; the file is never held in memory.

    Raises:
        CorpusError: the file ends early or is not JSON; it is read while iterating.
    """
    import ijson

    try:
        with path.open("rb") as stream:
            for number, recording in enumerate(ijson.items(stream, "audios.item", use_float=True), start=1):
                yield from _segments(f"{path.name}: entry {number} of audios", recording)
    except ijson.JSONError as error:
        raise CorpusError(f"{path}: not the JSON it should be ({error}); fetch it again") from error


def _segments(where: str, recording: object) -> Iterator[Segment | Reject]:
    if not isinstance(recording, dict):
        yield Reject(where, "malformed row", f"{where} is {recording!r}, not an object")
        return
    segments = recording.pop("segments", [])
    if not isinstance(segments, list):
        yield Reject(where, "malformed row", f"{where}: segments is {segments!r}, not a list")
        return
    for number, segment in enumerate(segments, start=1):
        if isinstance(segment, dict):
            yield Segment(recording, segment)
        else:
            place = f"{where}, segment {number}"
            yield Reject(place, "malformed row", f"{place} is {segment!r}, not an object")
