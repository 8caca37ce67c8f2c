"""Whether manifests still say what the recordings hold: each is decoded again and compared with its cut."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from azeros.data.audio import (
    TOLERANCE_S,
    Decoded,
    UnusableAudio,
    check_samples,
    decode,
    is_silent,
    span_of,
)
from azeros.data.manifests import cut_text, read_cuts
from azeros.data.parallel import map_in_order
from azeros.data.seen import Seen
from azeros.errors import ManifestError
from azeros.progress import track

if TYPE_CHECKING:
    from lhotse.cut import Cut

_FULL_SCALE = 0.999
# Of the samples at full scale; loud speech that was recorded well touches it less often.
_CLIPPED_SHARE = 1e-3


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a cut."""

    id: str
    fault: str
    """A few words, the same for all cuts with this fault."""
    detail: str


def check_manifests(path: Path, max_chars_per_s: float) -> Iterator[Finding]:
    """What is wrong in a manifest, or in all that lie in a folder; cut by cut, in several threads.

    Args:
        path: a .jsonl.gz file, or a folder with such files.
        max_chars_per_s: more text than that cannot have been said.

    Raises:
        ManifestError: there is no manifest, or it is damaged.
    """
    files = sorted(path.glob("*.jsonl.gz")) if path.is_dir() else [path]
    if not files:
        raise ManifestError(f"{path}: no manifest *.jsonl.gz in it; give the folder that prepare made")
    cuts = [read_cuts(file) for file in files]
    with track(f"check {path.name}", sum(map(len, cuts))) as advance, Seen() as ids, Seen() as sounds:
        every = (cut for of_file in cuts for cut in of_file)
        for cut, (findings, sound) in map_in_order(lambda cut: (cut, _check(cut, max_chars_per_s)), every):
            yield from findings
            if ids.first(cut.id) is not None:
                yield Finding(cut.id, "duplicate id", f"{cut.id}: an earlier cut has the same id")
            first = sounds.first(sound, cut.id) if sound else None
            if first not in (None, cut.id):
                yield Finding(cut.id, "duplicate audio", f"{cut.id}: the same sound as {first}")
            advance(1)


def _check(cut: Cut, max_chars_per_s: float) -> tuple[list[Finding], bytes | None]:
    """What is wrong with one cut by itself, and a digest of its sound, if that could be decoded."""
    from lhotse.cut.data import DataCut

    if not isinstance(cut, DataCut):
        mixed = f"{cut.id}: a {type(cut).__name__}; write cuts of one recording each"
        return [Finding(cut.id, "mixed", mixed)], None
    if cut.recording is None:
        return [Finding(cut.id, "no recording", f"{cut.id}: the cut names no recording")], None
    source = cut.recording.sources[0].source
    start_s, duration_s = span_of(cut)
    try:
        decoded = decode(source, start_s, duration_s)
        check_samples(decoded.mono, decoded.sampling_rate, str(source))
    except UnusableAudio as error:
        return [Finding(cut.id, error.reason, str(error))], None
    faults = [
        *_disagreements(cut, decoded, whole=duration_s is None),
        *_sound_faults(decoded),
        *_text_faults(cut, max_chars_per_s),
    ]
    digest = hashlib.sha256(decoded.samples.tobytes()).digest()
    return [Finding(cut.id, fault, f"{source}: {detail}") for fault, detail in faults], digest


def _disagreements(cut: Cut, decoded: Decoded, whole: bool) -> Iterable[tuple[str, str]]:
    transforms = cut.recording.transforms or []
    declared = getattr(transforms[0], "source_sampling_rate", None) if transforms else None
    declared = declared or cut.recording.sampling_rate
    if decoded.sampling_rate != declared:
        yield "sampling rate", f"{decoded.sampling_rate} Hz where the manifest says {declared}"
    duration_s = len(decoded.samples) / decoded.sampling_rate
    if whole and abs(duration_s - cut.duration) > TOLERANCE_S:
        yield "duration", f"{duration_s:.2f} s where the manifest says {cut.duration:.2f}"


def _sound_faults(decoded: Decoded) -> Iterable[tuple[str, str]]:
    if is_silent(decoded.mono, decoded.sampling_rate):
        yield "silent", "nothing can be heard in it"
    clipped = float(np.mean(np.abs(decoded.samples) >= _FULL_SCALE))
    if clipped > _CLIPPED_SHARE:
        yield "clipped", f"{100 * clipped:.1f} % of its samples are at full scale"


def _text_faults(cut: Cut, max_chars_per_s: float) -> Iterable[tuple[str, str]]:
    if len(cut.supervisions) != 1:
        yield "supervisions", f"{len(cut.supervisions)} supervisions, want one; cut it into utterances"
        return
    text = cut_text(cut)
    if len(text) > max_chars_per_s * cut.duration:
        yield "text too long", f"{len(text)} characters in {cut.duration:.2f} s"
