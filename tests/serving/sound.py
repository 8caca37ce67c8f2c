"""Recordings for the tests of serving."""

import base64
import io

import av
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


def muxed(samples: NDArray[np.float32], kind: str) -> bytes:
    """The same in a container that FFmpeg alone reads: m4a, webm, adts."""
    file = io.BytesIO()
    with av.open(file, "w", format={"m4a": "mp4"}.get(kind, kind)) as container:
        stream = container.add_stream("libopus" if kind == "webm" else "aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return file.getvalue()


def audio_part(content: bytes, kind: str = "wav") -> dict[str, object]:
    """It as OpenAI's part of a message."""
    data = base64.b64encode(content).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}
