"""Long recordings with segments in one large JSON file, as WenetSpeech and GigaSpeech have them: read in a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azeros.data.recipes import BadRow
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
        if self.duration_s <= 0 or self.start_s < 0:
            raise BadRow(self.id, "malformed row", f"segment {self.id}: it ends before it begins")

    @property
    def start_s(self) -> float:
        """Where the segment begins in its recording."""
        return float(self.fields["begin_time"])

    @property
    def duration_s(self) -> float:
        """How long the segment is."""
        return float(self.fields["end_time"]) - self.start_s


def read_segments(path: Path) -> Iterator[Segment]:
    """The segments of each recording in order; the file is never held in memory.

    Raises:
        CorpusError: the file ends early or is not JSON; it is read while iterating.
    """
    import ijson

    try:
        with path.open("rb") as stream:
            for recording in ijson.items(stream, "audios.item", use_float=True):
                segments = recording.pop("segments", [])
                yield from (Segment(recording, segment) for segment in segments)
    except ijson.JSONError as error:
        raise CorpusError(f"{path}: not the JSON it should be ({error}); fetch it again") from error
