"""Manifests: gzipped lhotse cuts, one utterance each, read lazily; equal content gives equal bytes."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from azeros.errors import ManifestError
from azeros.params import Filter

if TYPE_CHECKING:
    from lhotse import CutSet, SupervisionSegment
    from lhotse.cut import Cut

_COMPRESSION = 6


def cuts_path(manifests: Path, split: str) -> Path:
    """Where the cuts of `split` lie in the folder that prepare made."""
    return manifests / f"cuts_{split}.jsonl.gz"


def read_cuts(path: Path | str) -> CutSet:
    """The cuts of a manifest, read from the file, or the URL in a string, each time they are iterated over.

    Raises:
        ManifestError: there is no such file; while iterating: a line is not a cut, or the file ends early.
    """
    from lhotse import CutSet

    if isinstance(path, Path) and not path.is_file():
        raise ManifestError(f"{path}: no such manifest; make it with azeros prepare or azeros sift")
    return CutSet(_Lines(path))


class _Lines:
    """The cuts in a .jsonl or .jsonl.gz file."""

    def __init__(self, path: Path | str) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Cut]:
        import fsspec
        from lhotse.serialization import deserialize_item

        number = 0
        try:
            with fsspec.open(self.path, "rt", encoding="utf-8", compression="infer") as stream:
                for line in stream:
                    number += 1
                    yield deserialize_item(json.loads(line))
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise ManifestError(
                f"{self.path}: unreadable after line {number} ({error}); make it again"
            ) from error
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise ManifestError(
                f"{self.path}: line {number} is not a cut ({error!r}); make it again"
            ) from error

    def __len__(self) -> int:
        return sum(1 for _ in self)


@contextmanager
def open_cuts(path: Path) -> Iterator[Callable[[Cut], None]]:
    """Yield a function that appends a cut to the new manifest at `path`."""
    # No time and no name in the header.
    with path.open("wb") as file, gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as stream:
        yield lambda cut: _write_line(stream, cut)


def _write_line(stream: gzip.GzipFile, cut: Cut) -> None:
    stream.write((json.dumps(cut.to_dict(), ensure_ascii=False) + "\n").encode())


def write_cuts(cuts: Iterable[Cut], path: Path) -> None:
    """Write a manifest; the same cuts give the same bytes."""
    with open_cuts(path) as write:
        for cut in cuts:
            write(cut)


def supervision_of(cut: Cut) -> SupervisionSegment:
    """What is said in the cut, and by whom.

    Raises:
        ManifestError: the cut does not hold exactly one utterance.
    """
    if len(cut.supervisions) != 1:
        raise ManifestError(
            f"cut {cut.id}: {len(cut.supervisions)} supervisions, want one; cut it into utterances"
        )
    return cut.supervisions[0]


def cut_text(cut: Cut) -> str:
    """The transcript of a cut, empty where it has none."""
    return supervision_of(cut).text or ""


def unfit(duration_s: float, text: str, settings: Filter, *, strict: bool = False) -> str | None:
    """Why an utterance must stay out of training, or None.

    Args:
        duration_s: of the sound.
        text: transcript as it stands in the manifest.
        settings: the bounds, which count as inside.
        strict: the rule for making targets: the least duration and the most characters count as outside.
    """
    max_chars = settings.max_chars_per_s * duration_s
    if duration_s < settings.min_duration_s or (strict and duration_s == settings.min_duration_s):
        return "shorter than filter.min_duration_s"
    if duration_s > settings.max_duration_s:
        return "longer than filter.max_duration_s"
    if not text.strip():
        return "no text"
    if len(text) > max_chars or (strict and len(text) == max_chars):
        return "more text than filter.max_chars_per_s"
    return None
