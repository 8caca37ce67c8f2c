"""What every request passes before anything is done for it: key, size, time; and what its answer passes on the way out."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from azeros.errors import AzerosError, OverloadError, RequestError
from azeros.serving.error_body import error_body, foreign_error_body
from azeros.serving.settings import MB, ServingSettings
from bento.metrics import RESPONSES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_AFTER_S = 1
ANSWER_TIMEOUT_S = 600
"""Within which an answer must have begun."""
_GUARDED = ("/v1/", "/generate")
_COUNTED = ("/v1/chat/completions", "/v1/models", "/generate")


class Door:
    """ASGI middleware. A body is read here as a whole, so that all of them together have a bound."""

    def __init__(self, app: ASGIApp) -> None:

        self._app = app
        self._settings = ServingSettings.from_environment(os.environ)
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with what is wrong."""
        if scope["type"] != "http" or not scope["path"].startswith(_GUARDED):
            await self._app(scope, receive, send)
            return
        send = _counted(scope["path"], send)
        body = bytearray()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S) as waiting:
                outgoing = _Outgoing(send, waiting)
                try:
                    self._check_key(Headers(scope=scope))
                    await self._read(Headers(scope=scope), receive, body)
                except AzerosError as error:
                    status, content = error_body(error)
                    # What of the body was not read stays in the connection, which is of no more use.
                    await JSONResponse(content, status, {"connection": "close"})(scope, receive, outgoing)
                    return
                await self._app(scope, _replay(bytes(body), receive), outgoing)
        except TimeoutError:
            if not waiting.expired():
                raise
            message = f"no answer has begun within {ANSWER_TIMEOUT_S} s"
            await JSONResponse(foreign_error_body(504, message), 504)(scope, receive, send)
        finally:
            self._held_bytes -= len(body)

    def _check_key(self, headers: Headers) -> None:
        key = self._settings.api_key
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if key and not hmac.compare_digest(given.encode("latin-1"), key.encode()):
            raise RequestError("give the service's key as 'Authorization: Bearer KEY'", "invalid_api_key")

    async def _read(self, headers: Headers, receive: Receive, body: bytearray) -> None:
        limit = self._settings.max_body_mb * MB
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > limit:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._settings.upload_timeout_s):
                while True:
                    message = await receive()
                    chunk = message.get("body", b"")
                    body += chunk
                    self._held_bytes += len(chunk)
                    if len(body) > limit:
                        raise self._too_large()
                    if self._held_bytes > self._settings.max_bodies_mb * MB:
                        raise OverloadError(
                            "too much is being sent at the same time: ask again a little later"
                        )
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            waited_s = self._settings.upload_timeout_s
            raise RequestError(
                f"the body has not arrived within {waited_s:g} s; send it faster, or less", "timeout"
            ) from None

    def _too_large(self) -> RequestError:
        return RequestError(f"a body of more than {self._settings.max_body_mb} MB; send less", "too_large")


def _counted(path: str, send: Send) -> Send:
    """`send` that counts what is answered; by the paths that exist, since of others there is no end."""
    endpoint = path if path in _COUNTED else "other"

    async def counting(message: Message) -> None:
        if message["type"] == "http.response.start":
            RESPONSES.labels(endpoint, message["status"]).inc()
        await send(message)

    return counting


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` and then what comes after it."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


class _Outgoing:
    """Sends an answer on: with Retry-After if it is one, and every error in OpenAI's shape, whoever made it."""

    def __init__(self, send: Send, waiting: asyncio.Timeout) -> None:
        self._send = send
        self._waiting = waiting
        self._error: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._waiting.reschedule(None)
            if message["status"] in (429, 503):
                MutableHeaders(raw=message["headers"])["retry-after"] = str(RETRY_AFTER_S)
            if message["status"] >= 400:
                self._error = message  # its headers tell the length of the body
                return
        elif self._error:
            self._body += message.get("body", b"")
            if message.get("more_body", False):
                return
            content = foreign_error_body(self._error["status"], self._body.decode(errors="replace"))
            message = {"type": "http.response.body", "body": json.dumps(content).encode()}
            headers = MutableHeaders(raw=self._error["headers"])
            headers["content-type"] = "application/json"
            headers["content-length"] = str(len(message["body"]))
            await self._send(self._error)
        await self._send(message)
