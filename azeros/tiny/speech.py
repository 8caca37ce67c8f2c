"""Speech for the tiny world: espeak-ng spoken through its shared library, voices made older, younger, happier (DESIGN.md, the tiny world)."""

from __future__ import annotations

import ctypes
import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azeros.errors import CorpusError

SAMPLING_RATE = 16000
# The other modes speak from a thread of the library's own: the same samples in twice the time.
_SYNCHRONOUS_MODE = 2
_CHARS_UTF8 = 1
_POS_CHARACTER = 1
_EVENT_END, _EVENT_WORD = 0, 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_SEED = 1


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int), ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int), ("sample", ctypes.c_int), ("user_data", ctypes.c_void_p), ("id", _EventId),
    ]  # fmt: skip


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Voice:
    """Who speaks, and how."""

    accent: str
    variant: str
    gender: str
    age: str
    emotion: str

    @property
    def speaker(self) -> str:
        """A name for the voice without its mood."""
        return f"{self.espeak_name}-{self.age.replace(' ', '-')}"

    @property
    def espeak_name(self) -> str:
        """What espeak-ng calls the voice."""
        return f"{self.accent}+{self.variant}"


@dataclass(frozen=True)
class Speech:
    """A rendered utterance."""

    samples: NDArray[np.float32]
    """(N,) at 16 kHz in [-1, 1]."""
    word_starts: list[tuple[int, float]]
    """For each word that the synthesiser announced: (first character in the text, seconds)."""


def random_voice(
    rng: random.Random, speech: dict[str, Any], attributes: dict[str, list[str]], language: str, split: str
) -> Voice:
    """A voice of `split` for `language`, attributes drawn evenly."""
    voices = speech["voices"]["test" if split == "test" else "train"]
    gender = rng.choice(attributes["gender"])
    return Voice(
        accent=rng.choice(speech["accents"][language]),
        variant=rng.choice(voices[gender]),
        gender=gender,
        age=rng.choice(attributes["age"]),
        emotion=rng.choice(attributes["emotion"]),
    )


class Synthesizer:
    """espeak-ng in this process. One process that renders the same sequence of calls gives the same samples.

    Attributes:
        rate: Hz, of what `speak` returns.
    """

    def __init__(self) -> None:
        self._library, self.rate = _load()
        self._chunks: list[NDArray[np.int16]] = []
        self._words: list[tuple[int, float]] = []
        self._name = ""
        self._callback = _CALLBACK(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        index = 0
        while events[index].type != _EVENT_END:
            if events[index].type == _EVENT_WORD:
                self._words.append((events[index].text_position - 1, events[index].audio_position / 1000))
            index += 1
        return 0

    def render(self, text: str, voice: Voice, speech: dict[str, Any], rng: random.Random) -> Speech:
        """Speak `text`; `rng` draws the utterance's own deviation from the voice.

        Raises:
            CorpusError: espeak-ng does not know the voice, or gave no sound.
        """
        mood, age, jitter = speech["emotion"][voice.emotion], speech["age"][voice.age], speech["jitter"]
        resample = age["resample"] * (1 + rng.uniform(-1, 1) * jitter["resample"])
        rate = mood["rate"] * age["rate"] * (1 + rng.uniform(-1, 1) * jitter["rate"]) / resample
        pitch = mood["pitch"] + rng.uniform(-1, 1) * jitter["pitch"]
        samples = self.speak(text, voice.espeak_name, rate, mood["volume"], pitch, mood["range"])
        speed = resample * self.rate / SAMPLING_RATE
        samples = _resample(samples, speed)
        samples = _tremolo(samples, age["tremolo_hz"], age["tremolo_depth"])
        samples = np.tanh(mood["drive"] * samples) if mood["drive"] > 1 else samples
        samples = np.clip(samples * mood["volume"] / 100 * 0.8, -1, 1).astype(np.float32)
        return Speech(samples, [(start, at_s / resample) for start, at_s in self._words])

    def speak(
        self, text: str, name: str, rate: float, volume: int, pitch: float, pitch_range: int
    ) -> NDArray[np.float64]:
        """Samples (N,) in [-1, 1] of `text` by the voice of that name, everything else in espeak-ng's scales.

        Raises:
            CorpusError: as `render`.
        """
        self._chunks.clear()
        self._words.clear()
        library = self._library
        if name != self._name:
            if library.espeak_SetVoiceByName(name.encode()) != 0:
                raise CorpusError(f"espeak-ng has no voice {name!r}: mend speech.accents in the world file")
            self._name = name
        for parameter, value in (
            (_RATE, rate),
            (_VOLUME, min(volume, 100)),
            (_PITCH, pitch),
            (_RANGE, pitch_range),
        ):
            library.espeak_SetParameter(parameter, round(value), 0)
        data = text.encode()
        library.espeak_Synth(data, len(data) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        if not self._chunks:
            raise CorpusError(f"espeak-ng gave no sound for {text!r} with voice {name}; mend the world file")
        return _trim(np.concatenate(self._chunks).astype(np.float64) / 32768)


@cache
def _load() -> tuple[ctypes.CDLL, int]:
    """The library, initialised once a process, and its sampling rate in Hz."""
    try:
        import espeakng_loader
    except ImportError:
        raise CorpusError(
            "the tiny world needs espeak-ng to speak: make setup, or pip install 'azeros[train]'"
        ) from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS_MODE, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate <= 0:
        raise CorpusError("espeak-ng did not start: reinstall espeakng-loader")
    # The breath of women's voices is noise, which espeak-ng seeds with the clock.
    library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
    return library, rate


def _trim(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop the silence that the synthesiser appends; word times count from the start, which stays."""
    loud = np.flatnonzero(np.abs(samples) > 1e-3)
    return samples[: loud[-1] + 1] if len(loud) else samples


def _resample(samples: NDArray[np.float64], speed: float) -> NDArray[np.float64]:
    """Read `samples` `speed` times faster, band-limited."""
    from fractions import Fraction

    from scipy.signal import resample_poly

    ratio = Fraction(1 / speed).limit_denominator(160)
    return resample_poly(samples, ratio.numerator, ratio.denominator)


def _tremolo(samples: NDArray[np.float64], rate_hz: float, depth: float) -> NDArray[np.float64]:
    if depth == 0:
        return samples
    time_s = np.arange(len(samples)) / SAMPLING_RATE
    return samples * (1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * rate_hz * time_s)))
