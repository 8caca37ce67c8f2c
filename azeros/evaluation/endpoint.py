"""One chat completion from an OpenAI-compatible endpoint, with patience for what passes and none for what does not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from azeros.errors import EndpointError

if TYPE_CHECKING:
    import httpx

    from azeros.params import Server

_PASSING = {408, 409, 425, 429, *range(500, 600)}
_ABOUT_ONE_REQUEST = {400, 413, 422}
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_EXCERPT_CHARS = 200


class RefusedError(EndpointError):
    """The endpoint will not take this one request, whatever the others."""


@dataclass(frozen=True)
class Completion:
    """The answers to one request, at least one, and what they cost."""

    answers: list[str]
    served_model: str | None
    num_tokens: int


class Endpoint:
    """`POST {base_url}/chat/completions`."""

    def __init__(self, settings: Server, api_key: str | None, section: str) -> None:
        """`section` of params.yaml is where the settings stand."""
        self._settings = settings
        self._section = section
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        """Open the connections."""
        import httpx

        self._client = httpx.AsyncClient(
            base_url=self._settings.base_url.rstrip("/") + "/",
            headers=self._headers,
            timeout=self._settings.timeout_s,
            limits=httpx.Limits(max_connections=self._settings.max_concurrency),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        assert self._client is not None
        await self._client.aclose()

    async def complete(self, body: Mapping[str, Any]) -> Completion:
        """Ask until there is an answer, waiting longer after each failure, or as long as the endpoint asks for.

        Raises:
            RefusedError: the endpoint refuses this request.
            EndpointError: it refuses all (wrong key, no such model), or failed `max_tries` times.
        """
        problem, asked_wait_s = "", None
        for attempt in range(self._settings.max_tries):
            if attempt:
                await asyncio.sleep(_wait_s(attempt, asked_wait_s))
            found = await self._try(body)
            if isinstance(found, Completion):
                return found
            problem, asked_wait_s = found
        raise EndpointError(
            f"{self._settings.base_url}: failed {self._settings.max_tries} times, at last with {problem};"
            " what was done is kept: run the same command again later"
        )

    async def _try(self, body: Mapping[str, Any]) -> Completion | tuple[str, float | None]:
        """A completion, or a passing problem and how long the endpoint asks to wait."""
        import httpx

        assert self._client is not None
        try:
            reply = await self._client.post("chat/completions", json=body)
        except httpx.InvalidURL as error:
            raise EndpointError(
                f"{self._settings.base_url}: not a URL ({error}); mend {self._section}"
            ) from error
        except httpx.HTTPError as error:
            return f"{type(error).__name__} {error}".strip(), None
        excerpt = " ".join(reply.text.split())[:_EXCERPT_CHARS]
        if reply.status_code in _PASSING:
            return f"HTTP {reply.status_code} {excerpt}", _retry_after(reply)
        if reply.status_code in _ABOUT_ONE_REQUEST:
            raise RefusedError(f"{reply.url}: HTTP {reply.status_code} {excerpt}")
        if reply.is_error:
            raise EndpointError(
                f"{reply.url}: HTTP {reply.status_code} {excerpt}; mend {self._section} or the key in"
                f" {self._settings.api_key_variable}"
            )
        return _read(reply) or (f"an answer that is no chat completion: {excerpt}", None)


def _wait_s(attempt: int, asked_s: float | None) -> float:
    """As long as the endpoint asks for, else twice as long each time, less at random so that calls spread."""
    backoff_s = _FIRST_WAIT_S * 2.0 ** (attempt - 1) * random.uniform(0.5, 1)
    return min(backoff_s if asked_s is None else asked_s, _LONGEST_WAIT_S)


def _retry_after(reply: httpx.Response) -> float | None:
    try:
        return max(0.0, float(reply.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _read(reply: httpx.Response) -> Completion | None:
    try:
        content = reply.json()
        answers = [choice["message"]["content"] for choice in content["choices"]]
        if not answers or not all(isinstance(answer, str) for answer in answers):
            return None
        usage = content.get("usage") or {}
        return Completion(answers, content.get("model"), int(usage.get("total_tokens") or 0))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
