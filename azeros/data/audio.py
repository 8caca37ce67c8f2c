"""Reading recordings: every format that libsndfile knows, as 16 kHz mono float32.

Letters: N samples, C channels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from azeros.errors import AudioError

if TYPE_CHECKING:
    from lhotse.cut import Cut

SAMPLING_RATE = 16_000  # Hz
_FRAME_SHIFT = SAMPLING_RATE // 100
# Fewer frames leave nothing after the encoder's and the projector's subsampling.
MIN_FRAMES = 21
MIN_SAMPLES = (MIN_FRAMES - 1) * _FRAME_SHIFT + _FRAME_SHIFT // 2
# How much less sound than announced is a rounding of the container rather than a file cut short.
_TOLERANCE_S = 0.1
_FORMATS = "wav, flac, mp3, ogg or opus"


class UnusableAudio(AudioError):
    """A recording that cannot be used; `reason` is one of a few words to count by."""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        super().__init__(f"{name}: {reason}; {remedy}")
        self.reason = reason


@dataclass(frozen=True)
class AudioInfo:
    """What a recording holds, counted by decoding it: headers of mp3 and damaged files say otherwise."""

    num_samples: int
    sampling_rate: int  # Hz
    num_channels: int


def probe_audio(path: Path) -> AudioInfo:
    """Decode all of a recording and say what it holds.

    Raises:
        UnusableAudio: as `load_audio`.
    """
    samples, rate = _decode(path, str(path), 0.0, None)
    _check_samples(samples.mean(axis=1), rate, str(path))
    return AudioInfo(len(samples), rate, samples.shape[1])


def load_audio(
    source: Path | str | bytes, start_s: float = 0.0, duration_s: float | None = None
) -> NDArray[np.float32]:
    """Read a recording, or `duration_s` of it from `start_s` on, as (N,) float32 at 16 kHz.

    Channels are averaged and other sampling rates converted.

    Raises:
        UnusableAudio: missing, unreadable, empty, cut short, not finite (NaN, infinity), too short (0.2 s).
    """
    name = "audio data" if isinstance(source, bytes) else str(source)
    samples, rate = _decode(source, name, start_s, duration_s)
    mono = samples.mean(axis=1)
    _check_samples(mono, rate, name)
    return resample(mono, rate)


def resample(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Samples (N,) at `rate` Hz as they are at 16 kHz."""
    return samples if rate == SAMPLING_RATE else soxr.resample(samples, rate, SAMPLING_RATE)


def load_cut(cut: Cut) -> NDArray[np.float32]:
    """Samples (N,) of a cut, float32 at 16 kHz; paths in manifests count from the working directory.

    Raises:
        AudioError: as `load_audio`, naming the cut.
    """
    source = cut.recording.sources[0].source
    whole = cut.start == 0 and cut.duration == cut.recording.duration
    try:
        return load_audio(source, cut.start, None if whole else cut.duration)
    except UnusableAudio as error:
        error.args = (f"cut {cut.id}: {error}",)
        raise


def _check_samples(samples: NDArray[np.float32], rate: int, name: str) -> None:
    """Raise UnusableAudio unless `samples` (N,) at `rate` Hz are enough, and all finite."""
    if not len(samples):
        raise UnusableAudio(name, "empty", "there is no sound in it, record it again or take its row out")
    # A sum is finite only if every term is; float64 cannot overflow here.
    if not np.isfinite(samples.sum(dtype=np.float64)):
        raise UnusableAudio(name, "not finite", "it holds NaN or infinite samples, export it again")
    if len(samples) * SAMPLING_RATE < MIN_SAMPLES * rate:
        held_ms, wanted_ms = 1000 * len(samples) / rate, 1000 * MIN_SAMPLES / SAMPLING_RATE
        raise UnusableAudio(name, "too short", f"{held_ms:.0f} ms of sound, give at least {wanted_ms:.0f}")


def _decode(
    source: Path | str | bytes, name: str, start_s: float, duration_s: float | None
) -> tuple[NDArray[np.float32], int]:
    """Samples (N, C) float32 and their rate in Hz."""
    if isinstance(source, bytes):
        if not source:
            raise UnusableAudio(name, "empty", "send the content of a recording")
    else:
        _check_file(Path(source))
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            start = round(start_s * file.samplerate)
            available = max(file.frames - start, 0)
            wanted = available if duration_s is None else round(duration_s * file.samplerate)
            if start:
                file.seek(min(start, file.frames))
            samples = file.read(min(wanted, available), dtype="float32", always_2d=True)
            rate = file.samplerate
    except soundfile.LibsndfileError as error:
        detail = str(error.error_string).rstrip(".")
        remedy = f"{detail}, convert it to {_FORMATS} (ffmpeg -i IN OUT.wav)"
        raise UnusableAudio(name, "unreadable", remedy) from error
    if len(samples) and len(samples) < wanted - _TOLERANCE_S * rate:
        held_s, wanted_s = len(samples) / rate, wanted / rate
        raise UnusableAudio(
            name,
            "cut short",
            f"it holds {held_s:.2f} s of {wanted_s:.2f} s, fetch the file again or prepare anew",
        )
    return samples, rate


def _check_file(path: Path) -> None:
    """Name the faults that libsndfile would call a system error or an unknown format."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnusableAudio(
            str(path), "missing", f"{error.strerror}, restore it or correct the path"
        ) from error
    if not path.is_file():
        raise UnusableAudio(str(path), "unreadable", "it is not a file, give the path of a recording")
    if size == 0:
        raise UnusableAudio(str(path), "empty", "the file has no bytes, fetch it again")
