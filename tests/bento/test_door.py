"""What is refused at the door, without a server."""

import asyncio
from typing import Any

import pytest

from bento.door import Door


def answer(scope: dict[str, Any], chunks: list[bytes], delay_s: float) -> tuple[list[bytes], list[Any]]:
    """Bodies that came through, and what the client got, when `chunks` of a body arrive one by one."""
    came: list[bytes] = []
    got: list[Any] = []

    async def app(_: Any, receive: Any, send: Any) -> None:
        came.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(delay_s)
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        got.append(message)

    asyncio.run(Door(app)({"type": "http", "headers": []} | scope, receive, send))
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
