"""Recordings for the tests of serving."""

import base64
import io

import numpy as np
import soundfile
from numpy.typing import NDArray


def noise(duration_s: float, seed: int = 0) -> NDArray[np.float32]:
    samples = np.random.default_rng(seed).normal(0, 0.1, round(16000 * duration_s))
    return samples.astype(np.float32)


def encoded(samples: NDArray[np.float32], kind: str = "wav", rate: int = 16000, **how: str) -> bytes:
    """The content of an audio file; float32 where it is wav, so that nothing is rounded."""
    file = io.BytesIO()
    subtypes = {"wav": "FLOAT", "opus": "OPUS"}
    container = {"opus": "ogg"}.get(kind, kind)
    soundfile.write(file, samples, rate, format=container, **({"subtype": subtypes.get(kind)} | how))
    return file.getvalue()


def audio_part(content: bytes, kind: str = "wav") -> dict[str, object]:
    """It as OpenAI's part of a message."""
    data = base64.b64encode(content).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}
