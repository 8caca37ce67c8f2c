"""A conversation with more audio than the language model takes is refused before all of it is decoded."""

import json

import pytest

from azeros.errors import RequestError
from azeros.serving.audio import Clip, read_base64
from azeros.serving.protocol import read_chat_request
from tests.serving.sound import audio_part, encoded, noise


def test_no_more_audio_is_decoded_than_a_conversation_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def counting(data: str, max_s: float) -> Clip:
        decoded.append(data)
        return read_base64(data, max_s)

    monkeypatch.setattr("azeros.serving.protocol.read_base64", counting)
    parts = [audio_part(encoded(noise(1.5, seed))) for seed in range(4)]
    body = {"model": "azeros", "messages": [{"role": "user", "content": [part]} for part in parts]}
    request = read_chat_request(json.dumps(body).encode())
    with pytest.raises(
        RequestError, match=r"messages\.2\.content\.0\.input_audio: .* more than 4 s of audio"
    ) as caught:
        request.conversation({}, 2.0, 4.0)
    assert caught.value.code == "context_length_exceeded"
    assert len(decoded) == 3
    assert len(request.conversation({}, 2.0, 6.0)[1]) == 4
