"""Recordings as they are sent: checked before they are decoded, known by their sound, kept when encoded.

Letters: N samples, n frames of a slot, d width of the language model.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from azeros.data.audio import SAMPLING_RATE, Limit, UnusableAudio, load_audio
from azeros.serving.settings import MB

if TYPE_CHECKING:
    from torch import Tensor

# Ten minutes of stereo at 48 kHz are 220 MB.
_MAX_DECODED_MB = 256


@dataclass(frozen=True)
class Clip:
    """A recording of a request."""

    key: str
    """Of its samples: equal sound has equal keys."""
    samples: NDArray[np.float32]
    """(N,) at 16 kHz."""

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return len(self.samples) / SAMPLING_RATE

    def part(self) -> dict[str, Any]:
        """It as a part of a message (azeros.model.processing.Message)."""
        return {"type": "audio", "array": self.samples, "sampling_rate": SAMPLING_RATE}


def read_clip(content: bytes, max_audio_s: float) -> Clip:
    """Decode the content of an audio file.

    Raises:
        AudioError: as `load_audio`, or longer than `max_audio_s`, or too large once decoded.
    """
    samples = load_audio(content, limit=Limit(max_audio_s, _MAX_DECODED_MB * MB))
    # Not of the file, which may hold the time it was written at.
    return Clip(hashlib.sha256(samples.tobytes()).hexdigest(), samples)


def read_base64(data: str, max_audio_s: float) -> Clip:
    """Decode an audio file in base64.

    Raises:
        AudioError: not base64, else as `read_clip`.
    """
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise UnusableAudio("audio data", "not base64", f"{error}: encode the bytes of the file") from None
    return read_clip(content, max_audio_s)


class AudioCache:
    """Projected frames of the clips that were heard last, up to a number of bytes; not for several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._items: OrderedDict[str, list[Tensor]] = OrderedDict()

    def get(self, key: str) -> list[Tensor] | None:
        """For each slot of the clip (n, d) float; None where it is not known any more."""
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def put(self, key: str, slots: list[Tensor]) -> None:
        """Keep the slots of a clip, and forget what was not asked for the longest time."""
        # Copies, since a slot is a view that keeps all of its batch in memory.
        self._items[key] = [slot.clone() for slot in slots]
        self._num_bytes += _size(slots)
        while self._num_bytes > self._max_bytes:
            _, oldest = self._items.popitem(last=False)
            self._num_bytes -= _size(oldest)


def _size(slots: list[Tensor]) -> int:
    return sum(slot.nbytes for slot in slots)
