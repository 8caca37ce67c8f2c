"""What speaks the answers: a model that is asked for speech answers ``<style>|EOP|<content>``, and a talker says the content in the style.

Letters: N samples.
"""

from __future__ import annotations

import io
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from azeros.errors import ParamsError
from azeros.serving.settings import ServingSettings

SEPARATOR = "|EOP|"
NORMAL = "正常"
STYLES = (
    f"{NORMAL} 高兴 悲伤 惊讶 愤怒 恐惧 厌恶 冷静 严肃 快速 非常快速 慢速 非常慢速 粤语 四川话 上海话 郑州话 长沙话 天津话"
    " 神秘 凶猛 好奇 优雅 孤独 机器人 小猪佩奇"
).split()
SYSTEM_MESSAGE = (
    f"Your answer will be spoken. Write <style>{SEPARATOR}<content>: first how it is to be said, one of "
    f"{' '.join(STYLES)}, then {SEPARATOR}, then what is to be said, in plain sentences."
)
SAMPLING_RATE = 24_000  # OpenAI's, and one that opus has
# What libsndfile calls OpenAI's formats.
FORMATS: dict[str, dict[str, str]] = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    "mp3": {"format": "MP3"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "pcm16": {"format": "RAW", "subtype": "PCM_16", "endian": "LITTLE"},
}
# espeak-ng's variants, under names that OpenAI's clients know.
_VARIANTS = {"alloy": "f2", "coral": "f4", "echo": "m3", "onyx": "m7"}
# Pitch, its range and words a minute in espeak-ng's scales; the styles that are not here are beyond it.
_MANNERS = {
    NORMAL: (50, 35, 165),
    "高兴": (75, 95, 185),
    "悲伤": (30, 6, 130),
    "愤怒": (52, 60, 200),
    "快速": (50, 35, 210),
    "非常快速": (50, 35, 270),
    "慢速": (50, 35, 130),
    "非常慢速": (50, 35, 100),
}
_FULL_VOLUME = 100


class Said(NamedTuple):
    """An answer as it is spoken."""

    style: str
    """One of STYLES."""
    content: str


def understand(answer: str) -> Said:
    """What a model's answer says to say, and how; all of it, and as usual, where it does not say."""
    style, separator, content = answer.partition(SEPARATOR)
    if not separator:
        return Said(NORMAL, answer.strip())
    return Said(style.strip() if style.strip() in STYLES else NORMAL, content.strip())


class Talker(Protocol):
    """Speaks; from one thread at a time."""

    @property
    def voices(self) -> list[str]:
        """The names of its voices; none where it cannot speak."""

    def speak(self, said: Said, voice: str) -> tuple[NDArray[np.floating[Any]], int]:
        """Samples (N,) in [-1, 1] and their rate in Hz."""


class Espeak:
    """espeak-ng, by the wheel espeakng-loader."""

    @property
    def voices(self) -> list[str]:
        """As Talker."""
        return list(_VARIANTS) if find_spec("espeakng_loader") else []

    @cached_property
    def _synthesizer(self) -> Any:
        from azeros.tiny.speech import Synthesizer

        return Synthesizer()

    def speak(self, said: Said, voice: str) -> tuple[NDArray[np.floating[Any]], int]:
        """As Talker; Chinese where there is a Chinese character, else English."""
        language = "cmn" if any("一" <= character <= "鿿" for character in said.content) else "en-us"
        pitch, spread, rate = _MANNERS.get(said.style, _MANNERS[NORMAL])
        name = f"{language}+{_VARIANTS[voice]}"
        text = said.content.replace("\0", " ")
        return self._synthesizer.speak(text, name, rate, _FULL_VOLUME, pitch, spread), self._synthesizer.rate


class CosyVoice:
    """CosyVoice2 in its instruct mode: the user's own checkout on the Python path; a voice is a recording in a folder."""

    def __init__(self, model: str, voices: str) -> None:
        """Load it.

        Raises:
            ParamsError: it is not installed, or there is no recording.
        """
        self._recordings = {path.stem: path for path in sorted(Path(voices).glob("*.wav"))}
        if not self._recordings:
            raise ParamsError(
                f"AZEROS_TALKER_VOICES: no wav in {voices!r}: record a few seconds for each voice"
            )
        try:
            from cosyvoice.cli.cosyvoice import CosyVoice2
        except ImportError as error:
            raise ParamsError(
                f"AZEROS_TALKER: {error}: put FunAudioLLM/CosyVoice and its third_party/Matcha-TTS on PYTHONPATH"
            ) from None
        self._model = CosyVoice2(model)

    @property
    def voices(self) -> list[str]:
        """As Talker."""
        return list(self._recordings)

    def speak(self, said: Said, voice: str) -> tuple[NDArray[np.floating[Any]], int]:
        """As Talker."""
        manner = said.style if said.style.endswith(("话", "语")) else f"{said.style}的语气"
        instruction = f"用{manner}说这句话<|endofprompt|>"
        parts = self._model.inference_instruct2(
            said.content, instruction, str(self._recordings[voice]), stream=False
        )
        return np.concatenate([part["tts_speech"].numpy()[0] for part in parts]), self._model.sample_rate


def make(settings: ServingSettings) -> Talker:
    """The talker that the settings name.

    Raises:
        ParamsError: as CosyVoice.
    """
    if settings.talker == "espeak":
        return Espeak()
    return CosyVoice(settings.talker_model, settings.talker_voices)


def speech(talker: Talker, answer: str, voice: str, kind: str) -> tuple[str, bytes]:
    """What a model's answer says to say, and a file of one of FORMATS in which `voice` says it."""
    said = understand(answer)
    samples: NDArray[np.floating[Any]]
    if any(character.isalnum() for character in said.content):
        samples, rate = talker.speak(said, voice)
    else:
        samples, rate = np.zeros(SAMPLING_RATE // 10), SAMPLING_RATE  # there is nothing to say
    loud = np.clip(soxr.resample(samples, rate, SAMPLING_RATE), -1, 1)
    file = io.BytesIO()
    soundfile.write(file, loud, SAMPLING_RATE, **FORMATS[kind])
    return said.content, file.getvalue()
