"""Reading recordings of every kind as 16 kHz mono float32.

libsndfile reads wav, flac, mp3, ogg, opus, aiff, sph; what it does not know (m4a and mp4, aac, wma, webm, shortened
sph) goes to the FFmpeg libraries that the `av` wheel holds. A recording may be a part of a file, here or behind a URL.

Letters: N samples, C channels.
"""

from __future__ import annotations

import io
import math
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
TOLERANCE_S = 0.1
# A recording whose loudest tenth of a second stays below -60 dBFS holds no speech.
_SILENCE_RMS = 1e-3
_UNRECOGNISED = 1  # libsndfile's error code for a format that it does not know
# FFmpeg's names of what it is asked to read. Not what libsndfile reads: what that refuses is damaged, and FFmpeg would
# guess at it. Not playlists and session descriptions: they make it open other files, and ports.
_FFMPEG_FORMATS = "mov,matroska,asf,aac,nistsphere,avi,flv,mpegts,mpeg,amr,ac3,eac3,ape,tta,wv"
# Full scale is 1, and 2**31 in files that hold integers as floats. The energy of what is beyond it has no end.
_LOUDEST = 2.0**31
_LFS_POINTER = b"version https://git-lfs"
_WAITS_S = (0.5, 2.0, 8.0)  # before storage is asked again
_PART = re.compile(r"(.+)#bytes=(\d+)-(\d+)")


class UnusableAudio(AudioError):
    """A recording that cannot be used; `reason` is one of a few words to count by."""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        super().__init__(f"{name}: {reason}; {remedy}")
        self.reason = reason


@dataclass(frozen=True)
class Part:
    """A recording among others in one file, such as a tar shard, and its bytes, which are at hand when it is found."""

    file: str
    """Path or URL."""
    start: int  # of its bytes in the file
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        """As manifests name it and `load_audio` reads it again: FILE#bytes=FIRST-LAST."""
        return f"{self.file}#bytes={self.start}-{self.start + len(self.content) - 1}"


class Decoded(NamedTuple):
    """A recording, or a part of it, as it is in the file."""

    samples: NDArray[np.float32]
    """(N, C)."""
    sampling_rate: int  # Hz
    num_samples: int
    """Of the whole file, by its header."""

    @property
    def mono(self) -> NDArray[np.float32]:
        """(N,), the channels averaged; infinite where float32 ends."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.samples.mean(axis=1)


@dataclass(frozen=True)
class Limit:
    """The most that is decoded of a recording of unknown origin: a header of a few bytes can announce terabytes."""

    duration_s: float
    num_bytes: int
    """Of its samples as float32, with its channels and its rate."""

    def check(self, num_samples: int, rate: int, num_channels: int, name: str) -> None:
        """Raise UnusableAudio for a recording of more than that."""
        if num_samples > self.duration_s * rate:
            remedy = f"{num_samples / rate:.0f} s, cut it into pieces of at most {self.duration_s:g} s"
            raise UnusableAudio(name, "too long", remedy)
        if (size := num_samples * num_channels * 4) > self.num_bytes:
            taken = f"{size / 2**20:.0f} MB of samples where {self.num_bytes / 2**20:.0f} are taken"
            raise UnusableAudio(name, "too large", f"{taken}, convert it to 16 kHz mono")


@dataclass(frozen=True)
class AudioInfo:
    """What a recording holds, counted by decoding it: headers of mp3 and damaged files say otherwise."""

    num_samples: int
    """Of the whole file; by its header where only a part was decoded."""
    sampling_rate: int  # Hz
    num_channels: int


def probe_audio(source: Path | Part, start_s: float = 0.0, duration_s: float | None = None) -> AudioInfo:
    """Decode a recording, or `duration_s` of it from `start_s` on, and say what it holds.

    Raises:
        UnusableAudio: as `load_audio`; or silent.
    """
    decoded = decode(source, start_s, duration_s)
    samples, rate, num_samples = decoded
    mono = decoded.mono
    check_samples(mono, rate, str(source))
    if is_silent(mono, rate):
        raise UnusableAudio(str(source), "silent", "nothing can be heard in it, record it again")
    return AudioInfo(num_samples if duration_s is not None else len(samples), rate, samples.shape[1])


def is_silent(samples: NDArray[np.float32], rate: int) -> bool:
    """Whether no tenth of a second of `samples` (N,) at `rate` Hz is louder than -60 dBFS."""
    size = max(rate // 10, 1)
    frames = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    return bool(np.square(frames, dtype=np.float64).mean(axis=1).max() < _SILENCE_RMS**2)


def load_audio(
    source: Path | str | bytes,
    start_s: float = 0.0,
    duration_s: float | None = None,
    limit: Limit | None = None,
) -> NDArray[np.float32]:
    """Read a recording, or `duration_s` of it from `start_s` on, as (N,) float32 at 16 kHz.

    Channels are averaged and other sampling rates converted.

    Raises:
        UnusableAudio: missing, unreadable, empty, cut short, not finite (NaN, infinity), too short (0.2 s), or more
            than `limit`.
    """
    name = "audio data" if isinstance(source, bytes) else str(source)
    decoded = decode(source, start_s, duration_s, limit)
    mono = decoded.mono
    check_samples(mono, decoded.sampling_rate, name)
    return resample(mono, decoded.sampling_rate)


def resample(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Samples (N,) at `rate` Hz as they are at 16 kHz."""
    return samples if rate == SAMPLING_RATE else soxr.resample(samples, rate, SAMPLING_RATE)


def load_cut(cut: Cut) -> NDArray[np.float32]:
    """Samples (N,) of a cut, float32 at 16 kHz; paths in manifests count from the working directory.

    Raises:
        AudioError: as `load_audio`, naming the cut.
    """
    try:
        return load_audio(cut.recording.sources[0].source, *span_of(cut))
    except UnusableAudio as error:
        error.args = (f"cut {cut.id}: {error}",)
        raise


def span_of(cut: Cut) -> tuple[float, float | None]:
    """Where a cut begins in its recording, and how long it is, in seconds; None where it is all of the recording."""
    whole = cut.start == 0 and cut.duration == cut.recording.duration
    return cut.start, None if whole else cut.duration


def check_samples(samples: NDArray[np.float32], rate: int, name: str) -> None:
    """Raise UnusableAudio unless `samples` (N,) at `rate` Hz are enough, and all finite."""
    if not len(samples):
        raise UnusableAudio(name, "empty", "there is no sound in it, record it again or take its row out")
    # With a NaN among them, each is NaN, and no comparison is true.
    if not (samples.max() <= _LOUDEST and samples.min() >= -_LOUDEST):
        raise UnusableAudio(name, "not finite", "it holds NaN, infinite or immense samples, export it again")
    if len(samples) * SAMPLING_RATE < MIN_SAMPLES * rate:
        held_ms, wanted_ms = 1000 * len(samples) / rate, 1000 * MIN_SAMPLES / SAMPLING_RATE
        raise UnusableAudio(name, "too short", f"{held_ms:.0f} ms of sound, give at least {wanted_ms:.0f}")


def decode(
    source: Path | str | bytes | Part,
    start_s: float = 0.0,
    duration_s: float | None = None,
    limit: Limit | None = None,
) -> Decoded:
    """Read a recording, or `duration_s` of it from `start_s` on, with the channels and the rate that it has.

    Raises:
        UnusableAudio: missing, unreadable, empty, cut short, or more than `limit`.
    """
    name = "audio data" if isinstance(source, bytes) else str(source)
    if isinstance(source, Part):
        source = source.content
    elif part := _PART.fullmatch(name):
        source = _read_part(name, part[1], int(part[2]), int(part[3]) + 1)
    elif not isinstance(source, bytes):
        _check_file(Path(source))
    elif not source:
        raise UnusableAudio(name, "empty", "send the content of a recording")
    try:
        decoded = _decode_libsndfile(source, name, start_s, duration_s, limit)
    except soundfile.LibsndfileError as error:
        if error.code != _UNRECOGNISED:
            raise _unreadable(name, str(error.error_string)) from error
        decoded = _decode_ffmpeg(source, name, start_s, duration_s, limit)
    samples, rate, num_samples = decoded
    left = max(num_samples - round(start_s * rate), 0)
    wanted = left if duration_s is None else round(duration_s * rate)
    if len(samples) and len(samples) < wanted - TOLERANCE_S * rate:
        held_s, wanted_s = len(samples) / rate, wanted / rate
        raise UnusableAudio(
            name,
            "cut short",
            f"it holds {held_s:.2f} s of {wanted_s:.2f} s, fetch the file again or prepare anew",
        )
    return decoded


def _decode_libsndfile(
    source: Path | str | bytes, name: str, start_s: float, duration_s: float | None, limit: Limit | None
) -> Decoded:
    with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
        if limit:
            limit.check(file.frames, file.samplerate, file.channels, name)
        start = min(round(start_s * file.samplerate), file.frames)
        available = file.frames - start
        wanted = available if duration_s is None else round(duration_s * file.samplerate)
        if start:
            file.seek(start)
        samples = file.read(min(wanted, available), dtype="float32", always_2d=True)
        return Decoded(samples, file.samplerate, file.frames)


def _decode_ffmpeg(
    source: Path | str | bytes, name: str, start_s: float, duration_s: float | None, limit: Limit | None
) -> Decoded:
    import av

    planes: list[NDArray[np.float32]] = []
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        options = {"format_whitelist": _FFMPEG_FORMATS}
        with av.open(file, "r", options=options, metadata_errors="replace") as container:
            stream = next(iter(container.streams.audio), None)
            rate = getattr(stream, "rate", None)  # which one of an unknown codec has not
            if stream is None or not rate:
                raise _unreadable(name, "no sound that can be decoded")
            end = math.inf if duration_s is None else round((start_s + duration_s) * rate)
            converter, num_decoded = av.AudioResampler(format="fltp"), 0
            for frame in container.decode(stream):
                planes += [np.asarray(part.to_ndarray(), np.float32) for part in converter.resample(frame)]
                num_decoded += frame.samples
                if limit:
                    limit.check(num_decoded, rate, frame.layout.nb_channels, name)
                if num_decoded >= end:
                    break
            announced_s = stream.duration * stream.time_base if stream.duration and stream.time_base else 0
    except (av.error.FFmpegError, ValueError) as error:  # a ValueError for a codec that FFmpeg does not know
        raise _unreadable(name, getattr(error, "strerror", None) or str(error)) from error
    samples = np.concatenate(planes, axis=1).T if planes else np.zeros((0, 1), np.float32)
    start = round(start_s * rate)
    stop = None if duration_s is None else start + round(duration_s * rate)
    return Decoded(samples[start:stop], rate, round(announced_s * rate) or num_decoded)


def _unreadable(name: str, detail: str) -> UnusableAudio:
    remedy = "neither libsndfile nor the FFmpeg libraries of av read it; fetch it again, or convert it"
    return UnusableAudio(name, "unreadable", f"{detail.rstrip('.')}: {remedy} (ffmpeg -i IN OUT.wav)")


def _read_part(name: str, file: str, start: int, stop: int) -> bytes:
    """Bytes of a file, here or behind a URL; asked for again where the storage stumbles."""
    from fsspec.core import url_to_fs

    for wait_s in (*_WAITS_S, None):
        try:
            files, path = url_to_fs(file)
            content: bytes = files.cat_file(path, start=start, end=stop)
            break
        except Exception as error:  # each kind of storage has its own
            if wait_s is None or isinstance(error, FileNotFoundError):
                raise UnusableAudio(
                    name, "missing", f"{error or error!r}, restore it or see to the storage"
                ) from error
            time.sleep(wait_s)
    if len(content) != stop - start:
        held = f"{len(content)} bytes came where {stop - start} were asked for"
        raise UnusableAudio(
            name, "unreadable", f"{held}; restore the file, or have its server know HTTP ranges"
        )
    return content


def _check_file(path: Path) -> None:
    """Name the faults that libsndfile would call a system error or an unknown format."""
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:  # a ValueError for a name that no file can have
        detail = getattr(error, "strerror", None) or str(error)
        raise UnusableAudio(str(path), "missing", f"{detail}, restore it or correct the path") from error
    if not path.is_file():
        raise UnusableAudio(str(path), "unreadable", "it is not a file, give the path of a recording")
    if size == 0:
        raise UnusableAudio(str(path), "empty", "the file has no bytes, fetch it again")
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UnusableAudio(
                str(path), "git-lfs pointer", "the recording itself is not here, run git lfs pull"
            )
