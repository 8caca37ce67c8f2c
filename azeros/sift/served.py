"""The language model behind the HTTP interface of OpenAI: vLLM, SGLang, `transformers serve`, one GPU or many.

Prompts go to `/completions` as rendered, so no template of the server's comes between. Beside temperature 0 nothing
is said of decoding: the three named apply the model's own generation_config.json, as `LocalLLM` does.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from azeros.errors import StageError
from azeros.params import OpenAIBackend
from azeros.sift.answers import Answer, Finished
from azeros.sift.profile import LLMProfile, one_line

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_TRANSIENT = {408, 425, 429}  # and all from 500


class ServedLLM:
    """A language model on a server. Requests run at once, up to `settings.max_concurrency`."""

    def __init__(self, profile: LLMProfile, max_new_tokens: int, settings: OpenAIBackend) -> None:
        """Connects to nothing yet. Raises StageError if the environment lacks the key."""
        variable = settings.api_key_variable
        key = os.environ.get(variable) if variable else None
        if variable and not key:
            raise StageError(f"{settings.base_url}: no key in the environment variable {variable}; set it")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.profile = profile
        self.max_new_tokens = max_new_tokens
        self.settings = settings

    @property
    def identity(self) -> dict[str, Any]:
        """Another server, or another name on it, may be another model."""
        return {"kind": "openai", "base_url": self.settings.base_url, "model": self.settings.model}

    def batches(self, prompts: Sequence[str]) -> list[list[int]]:
        """Each prompt by itself: the server makes batches of its own."""
        return [[index] for index in range(len(prompts))]

    def answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
        """Raises StageError when the server refuses a request, or fails it as often as it is tried."""
        asyncio.run(self._answer(batches, finished))

    async def _answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
        free = asyncio.Semaphore(self.settings.max_concurrency)
        client = httpx.AsyncClient(
            base_url=self.settings.base_url,
            timeout=self.settings.timeout_s,
            headers=self._headers,
            limits=httpx.Limits(max_connections=self.settings.max_concurrency),
        )

        async def answer_one(number: int, prompt: str) -> None:
            async with free:
                answer = await self._ask(client, prompt)
            finished(number, [answer])

        try:
            async with client, asyncio.TaskGroup() as group:
                for number, (prompt,) in batches.items():
                    group.create_task(answer_one(number, prompt))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _ask(self, client: httpx.AsyncClient, prompt: str) -> Answer:
        body = {
            "model": self.settings.model,
            "prompt": prompt,
            "max_tokens": self.max_new_tokens,
            "temperature": 0,
        }
        wait_s = _FIRST_WAIT_S
        for attempt in range(self.settings.max_tries):
            if attempt:
                await asyncio.sleep(wait_s * random.uniform(1.0, 1.5))
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            try:
                response = await client.post("completions", json=body)
            except httpx.TransportError as error:
                problem = f"no answer ({type(error).__name__} {one_line(error)}".rstrip() + ")"
                continue
            if response.is_success:
                return self._read(response)
            problem = f"status {response.status_code} ({' '.join(response.text.split())[:200]})"
            if response.status_code not in _TRANSIENT and response.status_code < 500:
                raise self._failure(problem)
            wait_s = max(wait_s, _asked_wait_s(response))
        raise self._failure(f"{problem}, {self.settings.max_tries} times")

    def _read(self, response: httpx.Response) -> Answer:
        try:
            content = response.json()
            (choice,) = content["choices"]
            text, reason, num_tokens = (
                choice["text"],
                choice["finish_reason"],
                content["usage"]["completion_tokens"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise self._failure(f"not a completion ({error!r}): {response.text[:100]}") from error
        if reason == "length":
            return Answer.of(text, num_tokens, "length")
        # vLLM names the token that it stopped at where that is not the tokenizer's end token.
        stop = choice.get("stop_reason")
        is_other = isinstance(stop, int) and stop != self.profile.end_of_turn
        return Answer.of(text, num_tokens, "other_end" if is_other else "stop")

    def _failure(self, problem: str) -> StageError:
        return StageError(
            f"{self.settings.base_url}: {problem}; start the server or correct sift.backend, then run the same command "
            "again: finished rows are kept"
        )


def _asked_wait_s(response: httpx.Response) -> float:
    """What the header Retry-After asks for, within reason."""
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_WAIT_S) if asked.isdigit() else 0.0
