"""Servers with OpenAI's interface: one way to ask them, with patience for what passes and none for what does not.

Language models that write targets, judges, systems under test: all of them are asked through `Endpoint`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from azeros.errors import EndpointError
from azeros.params import Server

_PASSING = {408, 409, 429}  # and all from 500
_ABOUT_ONE_REQUEST = {400, 413, 422}
_FIRST_WAIT_S, _LONGEST_WAIT_S, _LONGEST_ASKED_WAIT_S = 0.5, 60.0, 600.0
_EXCERPT_CHARS = 200
_JSON = {"Content-Type": "application/json"}

Answer = TypeVar("Answer")


class RefusedError(EndpointError):
    """The server will not take this one request, whatever the others."""


class WithheldError(ValueError):
    """A whole reply that says nothing: a content filter's, a refusal, or thoughts that left no tokens for an answer."""


class _PassingError(Exception):
    """A try that failed, where the next may not.

    Attributes:
        wait_s: what the server asks to wait for it.
        is_withheld: the server works, and gave a reply without text.
    """

    def __init__(self, problem: str, wait_s: float = 0.0, is_withheld: bool = False) -> None:
        super().__init__(problem)
        self.wait_s = wait_s
        self.is_withheld = is_withheld


@dataclass(frozen=True)
class ChatCompletion:
    """The answers to one request for chat/completions, at least one, and what they cost."""

    answers: list[str]
    served_model: str | None
    """What the server says answered; a label like gpt-4o stands for different models over time."""
    num_tokens: int
    """0 where the server counts none."""

    @classmethod
    def read(cls, content: Any) -> Self:
        """From a reply's JSON, the choices without text left out; raises as `Endpoint.post` has it if that is something else."""
        answers, withheld = [], []
        for choice in content["choices"]:
            message = choice["message"]
            try:
                answers.append(read_text(message.get("content"), choice, message.get("refusal")))
            except WithheldError as error:
                withheld.append(error)
        if not answers:
            raise withheld[0] if withheld else ValueError("no answer in it")
        usage = content.get("usage") or {}
        return cls(answers, content.get("model"), int(usage.get("total_tokens") or 0))


def read_text(text: Any, choice: Mapping[str, Any], refusal: str | None = None) -> str:
    """The text of a choice.

    Raises:
        WithheldError: it has none, or a filter cut it off.
        ValueError: it is no text.
    """
    # Some servers say content_filter alone, some name the rule after it.
    finish_reason = str(choice.get("finish_reason"))
    if refusal or text is None or finish_reason.startswith("content_filter"):
        raise WithheldError(refusal or f"finish_reason {finish_reason}")
    if not isinstance(text, str):
        raise ValueError("no text in it")
    return text


class Endpoint:
    """A server that takes `POST {base_url}/{path}`, asked up to `max_concurrency` times at once.

    It is an asynchronous context, which holds the connections, and can be entered again and again.
    """

    def __init__(self, settings: Server, section: str) -> None:
        """Connects to nothing yet; `section` of params.yaml is where the settings stand.

        Raises:
            EndpointError: the environment has no key.
        """
        self._settings = settings
        self._section = section
        variable = settings.api_key_variable
        key = os.environ.get(variable) if variable else None
        if variable and not key:
            raise EndpointError(f"set {variable} to the key of {settings.base_url}")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def __aenter__(self) -> Self:
        """Open the connections."""
        self._free = asyncio.Semaphore(self._settings.max_concurrency)
        self._client = httpx.AsyncClient(
            headers=self._headers,
            timeout=self._settings.timeout_s,
            limits=httpx.Limits(max_connections=self._settings.max_concurrency),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        await self._client.aclose()

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Answer]) -> Answer:
        """Ask until there is an answer: waits longer after each failure, and as long as the server asks for.

        Args:
            path: such as chat/completions.
            body: to be sent as JSON.
            read: makes the answer of the reply's JSON. A LookupError, TypeError, ValueError or AttributeError that it
                raises counts as a failure of the server, a WithheldError as one of this request.

        Raises:
            RefusedError: the server refuses this request, or its last try came without text.
            EndpointError: it refuses all (wrong key, no such model), or failed `max_tries` times.
        """
        attempt = 0
        async with self._free:
            while True:
                attempt += 1
                try:
                    return await self._try(path, body, read)
                except _PassingError as problem:
                    if attempt == self._settings.max_tries:
                        if problem.is_withheld:
                            raise RefusedError(f"{self._settings.base_url}: {problem}") from problem
                        raise EndpointError(
                            f"{self._settings.base_url}: failed {attempt} times, at last with {problem}; what was done"
                            f" is kept: start the server or mend {self._section}, then run the same command again"
                        ) from problem
                    await asyncio.sleep(max(_backoff_s(attempt), problem.wait_s))

    async def _try(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Answer]) -> Answer:
        url = f"{self._settings.base_url.rstrip('/')}/{path}"
        try:
            # In ASCII, as httpx would not: half of a character, which UTF-8 has not, can be sent too.
            reply = await self._client.post(url, content=json.dumps(body), headers=_JSON)
        except httpx.InvalidURL as error:
            raise EndpointError(f"{url}: not a URL ({error}); mend {self._section}") from error
        except httpx.HTTPError as error:
            raise _PassingError(f"{type(error).__name__} {error}".strip()) from error
        excerpt = " ".join(reply.text.split())[:_EXCERPT_CHARS]
        problem = f"HTTP {reply.status_code} {excerpt}".strip()
        if reply.status_code in _PASSING or reply.is_server_error:
            raise _PassingError(problem, _asked_wait_s(reply))
        if reply.status_code in _ABOUT_ONE_REQUEST:
            raise RefusedError(f"{url}: {problem}")
        if not reply.is_success:
            key = self._settings.api_key_variable
            also = f" or the key in {key}" if key else ""
            raise EndpointError(f"{url}: {problem}; mend {self._section}{also}")
        try:
            return read(reply.json())
        except WithheldError as error:
            raise _PassingError(f"a reply without text ({error})", is_withheld=True) from error
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise _PassingError(f"a reply that is no answer ({error!r}): {excerpt}") from error


def _backoff_s(attempt: int) -> float:
    """Twice as long each time, less at random so that calls spread."""
    return min(_FIRST_WAIT_S * 2.0 ** (attempt - 1), _LONGEST_WAIT_S) * random.uniform(0.5, 1)


def _asked_wait_s(reply: httpx.Response) -> float:
    """What the header Retry-After asks for, in seconds or as a date (RFC 9110 section 10.2.3), within reason."""
    asked = reply.headers.get("Retry-After", "")
    try:
        seconds = float(asked) if asked.isdigit() else _seconds_until(parsedate_to_datetime(asked))
    except ValueError:
        return 0.0
    return min(seconds, _LONGEST_ASKED_WAIT_S)


def _seconds_until(date: datetime) -> float:
    return (date - datetime.now(UTC)).total_seconds()
