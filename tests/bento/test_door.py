"""What is refused at the door, without a server."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from bento.door import Door


def answer(
    scope: dict[str, Any], chunks: list[bytes], delay_s: float, said: Response | None = None
) -> tuple[list[bytes], list[Any]]:
    """Bodies that came through, and what the client got, when `chunks` of a body arrive one by one and `said` is answered."""
    came: list[bytes] = []
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        came.append((await receive())["body"])
        await asyncio.sleep(delay_s)
        await (said or Response())(scope, receive, send)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(delay_s)
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        got.append(message)

    asyncio.run(
        Door(app)({"type": "http", "asgi": {"spec_version": "2.4"}, "headers": []} | scope, receive, send)
    )
    return came, got


def test_a_body_in_pieces_comes_through_whole() -> None:
    came, got = answer({"path": "/v1/x"}, [b"a", b"b", b"c"], 0)
    assert came == [b"abc"]
    assert got[0]["status"] == 200


def test_a_slow_upload_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZEROS_UPLOAD_TIMEOUT_S", "0.05")
    came, got = answer({"path": "/generate"}, [b"a"] * 100, 0.02)
    assert not came
    assert got[0]["status"] == 408
    assert (b"connection", b"close") in got[0]["headers"]


def test_health_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZEROS_API_KEY", "key")
    assert answer({"path": "/readyz"}, [b""], 0)[1][0]["status"] == 200
    assert answer({"path": "/v1/models"}, [b""], 0)[1][0]["status"] == 401


def test_an_answer_that_does_not_begin_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bento.door.ANSWER_TIMEOUT_S", 0.05)
    start, body = answer({"path": "/v1/x"}, [b""], 0.2)[1]
    assert start["status"] == 504
    error = json.loads(body["body"])["error"]
    assert error == {
        "message": "no answer has begun within 0.05 s",
        "type": "server_error",
        "param": None,
        "code": "timeout",
    }


def test_an_answer_that_has_begun_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bento.door.ANSWER_TIMEOUT_S", 0.1)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b"):
            yield piece
            await asyncio.sleep(0.15)

    got = answer({"path": "/v1/x"}, [b""], 0, StreamingResponse(pieces()))[1]
    assert b"".join(message.get("body", b"") for message in got) == b"ab"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (PlainTextResponse("Not Found", 404), ("Not Found", "invalid_request_error", None, "not_found")),
        (JSONResponse({"error": "it is full"}, 503), ("it is full", "server_error", None, None)),
        (JSONResponse([{"error": "in a list"}], 400), ("in a list", "invalid_request_error", None, None)),
        (JSONResponse([1], 500), ("[1]", "server_error", None, None)),
        (
            JSONResponse({"error": "1 error", "detail": [{"loc": ["audio"], "msg": "is missing"}]}, 400),
            ("audio: is missing", "invalid_request_error", "audio", "invalid_value"),
        ),
        (
            JSONResponse({"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}, 400),
            ("m", "t", "p", "c"),
        ),
    ],
)
def test_every_error_has_openais_shape(said: Response, error: tuple[Any, ...]) -> None:
    start, body = answer({"path": "/generate"}, [b""], 0, said)[1]
    headers = dict(start["headers"])
    assert start["status"] == said.status_code
    assert int(headers[b"content-length"]) == len(body["body"])
    assert (b"retry-after" in headers) == (said.status_code == 503)
    assert json.loads(body["body"]) == {
        "error": dict(zip(("message", "type", "param", "code"), error, strict=True))
    }
