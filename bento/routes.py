"""OpenAI's routes under /v1."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from azeros.errors import AzerosError, RequestError
from azeros.serving.ask import Finished, Piece
from azeros.serving.error_body import error_body
from azeros.serving.openapi import document
from azeros.serving.protocol import ChatRequest, Completion
from azeros.serving.service import ChatService

if TYPE_CHECKING:
    from starlette.types import Receive

T = TypeVar("T")
_log = logging.getLogger(__name__)
_CLIENT_GONE = 499


def openai_routes(service: ChatService) -> list[Route]:
    """Routes that answer with `service`."""

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [service.card()]})

    async def model(request: Request) -> Response:
        try:
            service.check_model(request.path_params["name"])
        except RequestError as error:
            return refusal(error)
        return JSONResponse(service.card())

    async def chat_completions(request: Request) -> Response:
        try:
            return await unless_gone(request.receive, _complete(service, await request.body()))
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)
        except Exception as error:
            return refusal(error)

    async def openapi(_: Request) -> Response:
        return JSONResponse(document())

    return [
        Route("/chat/completions", chat_completions, methods=["POST"]),
        Route("/models", models, methods=["GET"]),
        Route("/models/{name:path}", model, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
    ]


async def _complete(service: ChatService, body: bytes) -> Response:
    service.check_room()
    request, conversation = await service.read_chat(body)
    completion = Completion(service.model_id)
    if not request.stream:
        text, finished = await service.whole_answer(conversation)
        spoken = await service.spoken(text, request.audio) if request.audio else None
        return JSONResponse(completion.whole(text, finished, spoken))
    answer = service.answer(conversation)
    first = await anext(answer)  # whatever is wrong with the request is known by then, and has its own status
    events = _server_sent(_chunks(first, answer, completion, request))
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _chunks(
    event: Piece | Finished,
    answer: AsyncGenerator[Piece | Finished],
    completion: Completion,
    request: ChatRequest,
) -> AsyncGenerator[dict[str, Any]]:
    yield completion.chunk({"role": "assistant", "content": ""})
    async with aclosing(answer):
        while isinstance(event, Piece):
            yield completion.chunk({"content": event.text})
            event = await anext(answer)
    yield completion.chunk({}, event.reason)
    if request.stream_options and request.stream_options.include_usage:
        yield completion.usage_chunk(event)


async def _server_sent(chunks: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[str]:
    async with aclosing(chunks):
        try:
            async for chunk in chunks:
                yield _event(chunk)
        except Exception as error:
            yield _event(_reported(error)[1])
            return
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def refusal(error: Exception) -> JSONResponse:
    """The response to a request that cannot be answered."""
    status, content = _reported(error)
    return JSONResponse(content, status)


def _reported(error: Exception) -> tuple[int, dict[str, Any]]:
    if not isinstance(error, AzerosError):
        _log.error("a request failed", exc_info=error)
    return error_body(error)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; it is cancelled when the client goes.

    Raises:
        ClientDisconnect: the client went.
    """
    working, going = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, going), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        going.cancel()
        # An error knows this frame, and the task the error: such a circle would keep the request until it is collected.
        del working, going


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
