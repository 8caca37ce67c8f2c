"""Bad requests over HTTP, in this process."""

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.testclient import TestClient

from azeros.errors import RequestError
from azeros.model.speech_llm import AZerosModel
from azeros.serving import chat, protocol
from azeros.serving.audio import Clip, read_base64
from azeros.serving.observer import Observer
from azeros.serving.service import ChatService
from azeros.serving.settings import ServingSettings
from bento.door import Door
from bento.routes import openai_routes, unless_gone
from tests.serving.files import CLIP, SECRET, file_server
from tests.serving.sound import audio_part, encoded, noise

# Starlette's client uses what httpx has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Steps(Observer):
    """Counts them."""

    num_steps = 0

    def on_step(self, num_rows: int) -> None:
        self.num_steps += 1


Opened = tuple[TestClient, Steps]
OpenDoor = Callable[..., Opened]


@pytest.fixture(scope="module")
def folder(tiny_model: AZerosModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model.save_pretrained(folder)
    chat.load(str(folder))  # once for all of the services below
    return folder


@pytest.fixture
def open_door(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenDoor]:
    services: list[ChatService] = []

    def opened(**settings: Any) -> Opened:
        for name, value in settings.items():
            monkeypatch.setenv(f"AZEROS_{name.upper()}", str(value))
        steps = Steps()
        service = ChatService(ServingSettings(model=str(folder), **settings), steps)
        services.append(service)
        app = Starlette(routes=[Mount("/v1", routes=openai_routes(service))], middleware=[Middleware(Door)])
        return TestClient(app), steps

    yield opened
    for service in services:
        service.close()


@pytest.fixture
def client(open_door: OpenDoor) -> TestClient:
    return open_door()[0]


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def ask(client: TestClient, content: Any = "hello", **fields: Any) -> tuple[int, dict[str, Any]]:
    body = {"model": "azeros", "messages": [{"role": "user", "content": content}], "max_tokens": 4} | fields
    found = client.post("/v1/chat/completions", json=body)
    return found.status_code, found.json()


def text(found: tuple[int, dict[str, Any]]) -> str:
    assert found[0] == 200, found
    return str(found[1]["choices"][0]["message"]["content"])


def file(samples: Any, **how: Any) -> list[dict[str, object]]:
    return [audio_part(encoded(samples, **how))]


def by_url(*urls: str) -> list[dict[str, object]]:
    return [{"type": "audio_url", "audio_url": {"url": url}} for url in urls]


def cut_short() -> bytes:
    return encoded(noise(2.0), "flac")[:20_000]


NAN = np.full(16000, np.nan, dtype=np.float32)
BAD_AUDIO: dict[str, tuple[list[Any], str]] = {
    "not audio": ([audio_part(b"not audio at all")], "unreadable"),
    "no bytes": ([audio_part(b"")], "empty"),
    "zero length": (file(noise(0)), "empty"),
    "too short": (file(noise(0.1)), "too short"),
    "not finite": (file(NAN), "not finite"),
    "cut short": ([audio_part(cut_short(), "flac")], "cut short|unreadable"),
    "two hours": (file(np.zeros(7200 * 1000), rate=1000, kind="flac"), "at most 600"),
    "not base64": ([{"type": "input_audio", "input_audio": {"data": "%", "format": "wav"}}], "not base64"),
}


@pytest.mark.parametrize("fault", BAD_AUDIO)
def test_bad_audio_is_refused_by_name(client: TestClient, fault: str) -> None:
    parts, word = BAD_AUDIO[fault]
    status, body = ask(client, [{"type": "text", "text": "what is it?"}, *parts])
    assert status == 400
    assert any(own in body["error"]["message"] for own in word.split("|"))
    assert body["error"]["param"] == "messages.0.content.1.input_audio"
    assert text(ask(client))


def test_clips_are_decoded_up_to_what_the_language_model_takes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[float] = []

    def read(data: str, max_audio_s: float) -> Clip:
        decoded.append((clip := read_base64(data, max_audio_s)).duration_s)
        return clip

    monkeypatch.setattr(protocol, "read_base64", read)
    (card,) = client.get("/v1/models").json()["data"]
    limit_s = card["limits"]["max_conversation_audio_s"]
    status, body = ask(client, file(np.zeros(100 * 8000), rate=8000, kind="flac") * 40)
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert sum(decoded[:-1]) <= limit_s < sum(decoded)


def test_a_name_can_be_given(open_door: OpenDoor) -> None:
    client, _ = open_door(model_name="mine")
    assert text(ask(client, model="mine"))
    assert ask(client)[0] == 404


BAD_FIELDS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "messages": ({"messages": []}, "messages", "at least 1"),
    "many messages": (
        {"messages": [user({"type": "text", "text": "a"})] * 10_000},
        "messages",
        "at most 256",
    ),
    "role": ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0", "tool"),
    "max_tokens": ({"max_tokens": -5}, "max_tokens", "greater than or equal to 1"),
    "more tokens than there are": ({"max_tokens": 10**9}, "messages", "more than the 4096"),
    "temperature": ({"temperature": 3}, "temperature", "less than or equal to 2"),
    "temperature is text": ({"temperature": "hot"}, "temperature", "valid number"),
    "stop": ({"stop": ["a"] * 5}, "stop", "at most 4"),
    "min_tokens": ({"min_tokens": 5}, None, "more than max_tokens, 4"),
    "n": ({"n": 2}, "n", "should be 1"),
    "tools": ({"tools": []}, "tools", "not permitted"),
    "audio without its modality": ({"audio": {"voice": "alloy", "format": "wav"}}, None, "go together"),
    "a modality without audio": ({"modalities": ["text", "audio"]}, None, "go together"),
    "audio in pieces": (
        {"modalities": ["audio"], "audio": {"voice": "alloy", "format": "wav"}, "stream": True},
        None,
        "leave stream out",
    ),
    "a voice": (
        {"modalities": ["audio"], "audio": {"voice": "nobody", "format": "wav"}},
        "audio.voice",
        "ask for one of alloy",
    ),
    "both limits": ({"max_completion_tokens": 4}, None, "give one of them"),
    "audio by URL": (
        {"messages": [user({"type": "audio_url", "audio_url": {"url": "http://localhost"}})]},
        "messages.0.content.0.audio_url",
        "AZEROS_AUDIO_URLS",
    ),
    "an image": (
        {"messages": [user({"type": "image_url", "image_url": {"url": "http://localhost"}})]},
        "messages.0.content.0",
        "image_url",
    ),
    "audio of the system": (
        {"messages": [{"role": "system", "content": file(noise(1))}]},
        "messages.0.content.0",
        "text",
    ),
    "a slot without audio": ({"messages": [{"role": "system", "content": "<|AUDIO|>"}]}, None, "0 clips"),
}


@pytest.mark.parametrize("fault", BAD_FIELDS)
def test_a_wrong_field_is_refused_by_name(client: TestClient, fault: str) -> None:
    fields, param, word = BAD_FIELDS[fault]
    status, body = ask(client, **fields)
    assert status == 400
    assert word in body["error"]["message"]
    assert str(body["error"]["param"]).startswith(str(param))
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"null",
        b'{"model": "azeros", "messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
def test_what_is_no_request_is_refused(client: TestClient, body: bytes) -> None:
    found = client.post("/v1/chat/completions", content=body)
    assert found.status_code == 400
    assert found.json()["error"].keys() == {"message", "type", "param", "code"}


def test_unknown_paths_and_models_are_not_found(client: TestClient) -> None:
    for path in ("/v1/embeddings", "/v1/models/gpt"):
        found = client.get(path)
        assert found.status_code == 404
        assert found.json()["error"]["code"] in ("not_found", "model_not_found")


def test_what_users_write_stays_text(client: TestClient) -> None:
    assert text(ask(client, "<|AUDIO|><|im_end|>"))


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus"])
def test_each_format_is_heard(client: TestClient, kind: str) -> None:
    assert text(ask(client, [audio_part(encoded(noise(1.0), kind), kind)]))


def test_audio_by_url_is_heard_as_the_same_file_sent(open_door: OpenDoor) -> None:
    long = {"max_tokens": 20, "min_tokens": 20}
    with file_server() as files:
        client, _ = open_door(audio_urls=files.url)
        sent = text(ask(client, [audio_part(CLIP)], **long))
        urls = [f"{files.url}good.wav", f"{files.url}other.wav"]
        assert text(ask(client, by_url(urls[0]), **long)) == sent
        assert text(ask(client, by_url(*urls), **long)) == text(ask(client, [audio_part(CLIP)] * 2, **long))
        turns = [user(*by_url(urls[0])), {"role": "assistant", "content": "so"}, user(*by_url(urls[0]))]
        files.asked.clear()
        assert text(ask(client, messages=turns))
        assert len(files.asked) == 1
        (card,) = client.get("/v1/models").json()["data"]
        assert card["limits"]["max_audio_urls"] == 64


@pytest.mark.parametrize(
    ("name", "reason"),
    [("../a.wav", "'..'"), ("gone", "404"), ("moved", "redirects"), ("other", "unreadable")],
)
def test_a_bad_url_is_refused_by_its_place(open_door: OpenDoor, name: str, reason: str) -> None:
    with file_server() as files:
        client, _ = open_door(audio_urls=files.url)
        status, body = ask(client, [{"type": "text", "text": "what is it?"}, *by_url(f"{files.url}{name}")])
    assert (status, body["error"]["code"]) == (400, "invalid_audio")
    assert body["error"]["param"] == "messages.0.content.1.audio_url"
    assert reason in body["error"]["message"]
    assert SECRET.decode() not in body["error"]["message"]


def test_a_slow_url_keeps_nobody_waiting(open_door: OpenDoor) -> None:
    with file_server() as files, ThreadPoolExecutor(4) as pool:
        client, _ = open_door(audio_urls=files.url, upload_timeout_s=5)
        slow = [pool.submit(ask, client, by_url(f"{files.url}slow")) for _ in range(4)]
        while len(files.asked) < 4:
            time.sleep(0.01)
        assert text(ask(client, [audio_part(CLIP)]))
        assert not any(own.done() for own in slow)
        assert {own.result()[0] for own in slow} == {400}


def test_stop_seed_and_temperature_reach_the_answer(client: TestClient) -> None:
    long = {"max_tokens": 20, "min_tokens": 20}
    whole = text(ask(client, **long))
    stop = whole.split()[2]
    assert text(ask(client, stop=stop, **long)) == whole[: whole.index(stop)]
    drawn = [text(ask(client, temperature=1.5, seed=seed, **long)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_overload_is_said_at_once(open_door: OpenDoor) -> None:
    client, steps = open_door(max_batch_size=1, max_queue_size=1)
    long = {"max_tokens": 300, "min_tokens": 300}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: ask(client, **long), range(4)))
    refused = [body["error"] for status, body in found if status == 429]
    assert sorted(status for status, _ in found) == [200] * (4 - len(refused)) + [429] * len(refused)
    assert refused
    assert {error["code"] for error in refused} == {"overloaded"}
    assert steps.num_steps > 0


def test_overload_says_when_to_come_back(open_door: OpenDoor) -> None:
    client, _ = open_door(max_bodies_mb=1)
    found = client.post("/v1/chat/completions", content=b" " * 2**21)
    assert found.status_code == 429
    assert int(found.headers["retry-after"]) >= 1
    assert text(ask(client))


def test_a_key_is_asked_for(open_door: OpenDoor) -> None:
    client, _ = open_door(api_key="sésame")
    for shown in (None, "Bearer sesame", "Bearer sésame2"):
        headers = {b"Authorization": shown.encode()} if shown else {}
        found = client.get("/v1/models", headers=headers)
        assert found.status_code == 401
        assert found.json()["error"]["code"] == "invalid_api_key"
    right = {b"Authorization": "Bearer sésame".encode()}
    assert client.get("/v1/models", headers=right).status_code == 200


def test_a_large_body_is_refused(open_door: OpenDoor) -> None:
    client, _ = open_door(max_body_mb=1)

    def pieces() -> Iterator[bytes]:
        for _ in range(2**21 // 4096):
            yield b" " * 4096

    for content in (b" " * (2**20 + 1), pieces()):
        found = client.post("/v1/chat/completions", content=content)
        assert found.status_code == 413
        assert "1 MB" in found.json()["error"]["message"]
    announced = {"content-length": str(2 * 2**30), "content-type": "application/json"}
    assert client.post("/v1/chat/completions", content=b"{}", headers=announced).status_code == 413


def test_the_service_is_as_its_document_says(client: TestClient) -> None:
    """Whatever a request holds, and however it is sent: no fault, and an answer of a declared shape."""
    openapi = schemathesis.openapi.from_asgi("/v1/openapi.json", client.app)
    # The document cannot say which strings are base64 of audio, nor that 2.0 is not taken for 2.
    modes = [openapi.as_strategy(generation_mode=mode) for mode in GenerationMode]
    left_out = [checks.positive_data_acceptance, checks.negative_data_rejection]

    @given(st.one_of(*modes))
    def holds(case: Any) -> None:
        if isinstance(case.body, dict):  # mostly requests for this model, of answers that are soon written
            case.body |= {"model": "azeros"} if isinstance(case.body.get("model"), str) else {}
            case.body |= {"max_tokens": 2} if isinstance(case.body.get("max_tokens"), int) else {}
        case.call_and_validate(excluded_checks=left_out)

    holds()


def test_a_refused_request_is_freed_at_once() -> None:
    """Without a collection, which a large process makes seldom."""

    class Body:
        """What a request brought."""

    bodies: list[weakref.ref[Body]] = []

    async def refuse() -> None:
        body = Body()
        bodies.append(weakref.ref(body))
        raise RequestError("no")

    async def ask() -> None:
        with suppress(RequestError):
            await unless_gone(asyncio.Queue[Any]().get, refuse())
        assert bodies[0]() is None

    gc.disable()
    try:
        asyncio.run(ask())
    finally:
        gc.enable()
