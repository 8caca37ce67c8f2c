"""Whatever is sent, the answer is one of two: what was understood, or an error that names what is wrong."""

import base64
import copy
import io
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from azeros.errors import AudioError, RequestError
from azeros.serving.audio import Clip, read_base64, read_clip
from azeros.serving.error_body import error_body
from azeros.serving.protocol import MAX_MESSAGES, read_chat_request
from azeros.serving.talker import FORMATS, SAMPLING_RATE, Espeak, speech
from tests.serving.sound import audio_part, encoded, muxed, noise

MAX_S = 2.0
KINDS = ["wav", "flac", "mp3", "ogg", "opus", "m4a", "webm", "adts"]
# Of counts, rates and sizes in headers.
EXTREMES = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0", b"\0\0\0\1"]


@cache
def recording(kind: str) -> bytes:
    """Half a second of noise as an audio file."""
    return muxed(noise(0.5), kind) if kind in ("m4a", "webm", "adts") else encoded(noise(0.5), kind)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real file with a few changes, in its head more often than not."""
    content = bytearray(recording(draw(st.sampled_from(KINDS))))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, 127) | st.integers(0, len(content)))
        match draw(st.sampled_from(["flip", "extreme", "bytes", "drop", "cut"])):
            case "flip":
                content[place : place + 1] = bytes(
                    byte ^ 1 << draw(st.integers(0, 7)) for byte in content[place : place + 1]
                )
            case "extreme":
                content[place : place + 4] = draw(st.sampled_from(EXTREMES))
            case "bytes":
                content[place:place] = draw(st.binary(max_size=16))
            case "drop":
                del content[place : place + draw(st.integers(1, 64))]
            case "cut":
                del content[place:]
    return bytes(content)


def check(read: Callable[[], Clip]) -> None:
    try:
        clip = read()
    except AudioError:
        return
    assert clip.samples.dtype == np.float32
    assert clip.samples.ndim == 1
    assert 0.2 <= clip.duration_s <= MAX_S
    assert np.isfinite(clip.samples).all()


@given(damaged())
def test_a_damaged_file_is_heard_or_refused(content: bytes) -> None:
    check(lambda: read_clip(content, MAX_S))


@given(st.binary(max_size=300))
def test_bytes_are_refused(content: bytes) -> None:
    check(lambda: read_clip(content, MAX_S))


@given(st.text(max_size=50) | st.binary(max_size=50).map(lambda content: base64.b64encode(content).decode()))
def test_base64_is_heard_or_refused(data: str) -> None:
    check(lambda: read_base64(data, MAX_S))


@given(
    channels=st.integers(1, 64),
    rate=st.sampled_from([1, 2, 10, 999, 8000, 11025, 44100, 192_000, 3_000_000, 2**31 - 1])
    | st.integers(1, 2**31 - 1),
    num_samples=st.integers(0, 4000),
    loudness=st.sampled_from([0, 1e-40, 0.1, 1e4, 1e20, 3e38]),
)
def test_any_layout_is_heard_or_refused(channels: int, rate: int, num_samples: int, loudness: float) -> None:
    samples = np.full((num_samples, channels), loudness, np.float32)
    check(lambda: read_clip(encoded(samples, rate=rate), MAX_S))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PARTS = [
    {"type": "text", "text": "what is said?"},
    audio_part(encoded(noise(0.3), "flac"), "flac"),
    {"type": "audio_url", "audio_url": {"url": "https://clips.example.org/a.wav"}},
]
REQUEST: dict[str, Any] = {
    "model": "azeros",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": PARTS},
        {"role": "assistant", "content": [{"type": "text", "text": "hello"}], "refusal": None},
        {"role": "user", "content": "again"},
    ],
    "max_tokens": 20,
    "min_tokens": 2,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 1,
    "stop": ["."],
    "stream": True,
    "stream_options": {"include_usage": True},
    "user": "me",
    "n": 1,
    "modalities": ["text"],
    "audio": None,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logprobs": False,
}


SPOKEN: dict[str, Any] = {
    "model": "azeros",
    "messages": [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "audio": {"id": "audio_1", "transcript": "hi", "data": "", "expires_at": 0}},
        {"role": "user", "content": PARTS},
    ],
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys to everything in `value`."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, own in inner:
        yield from places(own, (*path, key))


@st.composite
def changed(draw: st.DrawFn) -> Any:
    """A request of which one or two places hold something else, or something more, or nothing."""
    request = {"": copy.deepcopy(draw(st.sampled_from([REQUEST, SPOKEN])))}
    for _ in range(draw(st.integers(1, 2))):
        *outer, last = draw(st.sampled_from(list(places(request))[1:]))
        holder: Any = request
        for key in outer:
            holder = holder[key]
        match draw(st.sampled_from(["other", "more", "nothing"])):
            case "more" if isinstance(holder[last], dict):
                holder[last][draw(st.text(max_size=8))] = draw(JSON)
            case "nothing" if outer:
                del holder[last]
            case _:
                holder[last] = draw(JSON)
    return request[""]


def understand(body: bytes) -> None:
    """It is either a request that can be answered, or a 400 that names the place."""
    try:
        request = read_chat_request(body)
        fetched = {url: bytearray(recording("wav")) for url in request.audio_urls}
        messages, clips = request.conversation(fetched, MAX_S, 3 * MAX_S)
    except RequestError as error:
        status, shape = error_body(error)
        assert status == 400
        assert shape["error"].keys() == {"message", "type", "param", "code"}
        json.dumps(shape).encode()
        return
    assert 1 <= len(request.messages) == len(messages) - bool(request.audio) <= MAX_MESSAGES
    assert all(0.2 <= clip.duration_s <= MAX_S for clip in clips)
    sampling = request.sampling
    assert 0 <= sampling.min_tokens <= sampling.max_tokens
    assert sampling.temperature >= 0
    assert 0 < sampling.top_p <= 1
    assert all(sampling.stop)
    sampling.generator()


@given(changed())
def test_a_changed_request_is_understood_or_refused(request: Any) -> None:
    understand(json.dumps(request).encode())


@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_body_of_anything_is_refused(body: bytes) -> None:
    understand(body)


@given(st.text(max_size=60) | st.text("ab|EOP, 你好.<>&\0", max_size=60), st.sampled_from(list(FORMATS)))
def test_any_answer_is_spoken(answer: str, kind: str) -> None:
    talker = Espeak()
    transcript, file = speech(talker, answer, talker.voices[0], kind)
    assert transcript in answer
    if kind != "pcm16":
        assert soundfile.info(io.BytesIO(file)).samplerate == SAMPLING_RATE
