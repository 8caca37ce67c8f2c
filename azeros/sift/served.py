"""The language model behind the HTTP interface of OpenAI: vLLM, SGLang, `transformers serve`, one GPU or many.

Prompts go to `/completions` as rendered, so no template of the server's comes between. Beside temperature 0 nothing
is said of decoding: the three named apply the model's own generation_config.json, as `LocalLLM` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from azeros.endpoint import Endpoint, RefusedError, read_text
from azeros.errors import EndpointError
from azeros.params import OpenAIBackend
from azeros.sift.answers import Answer, Finished
from azeros.sift.profile import LLMProfile

_log = logging.getLogger(__name__)


class ServedLLM:
    """A language model on a server."""

    def __init__(self, profile: LLMProfile, max_new_tokens: int, settings: OpenAIBackend) -> None:
        """Connects to nothing yet. Raises EndpointError if the environment lacks the key."""
        self.profile = profile
        self.max_new_tokens = max_new_tokens
        self.settings = settings
        self._endpoint = Endpoint(settings, "sift.backend")
        # A server's tokenizer puts this before any text (Llama's begin of text); the chat template has written it already.
        self._added = profile.text_before_any()

    @property
    def identity(self) -> dict[str, Any]:
        """Another server, or another name on it, may be another model."""
        return {"kind": "openai", "base_url": self.settings.base_url, "model": self.settings.model}

    def batches(self, prompts: Sequence[str]) -> list[list[int]]:
        """Each prompt by itself: the server makes batches of its own."""
        return [[index] for index in range(len(prompts))]

    def answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
        """A prompt that the server refuses, or leaves without text, has its reason for an answer.

        Raises EndpointError when the server refuses all, or fails a request as often as it is tried.
        """
        asyncio.run(self._answer(batches, finished))

    async def _answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
        queue = iter(batches.items())
        failures: list[EndpointError] = []
        refusals: list[RefusedError] = []

        async def work() -> None:
            """Take prompts until there are none; a call that is under way when another fails is still kept."""
            for number, (prompt,) in queue:
                try:
                    finished(number, [await self._ask(prompt)])
                except RefusedError as error:
                    refusals.append(error)
                    finished(number, [Answer(str(error), 0, "refused")])
                except EndpointError as error:
                    failures.append(error)
                if failures:
                    return

        try:
            async with self._endpoint, asyncio.TaskGroup() as group:
                for _ in range(self.settings.max_concurrency):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if refusals:
            _log.warning(
                "%d of %d prompts are refused, the first by %s", len(refusals), len(batches), refusals[0]
            )
        if failures:
            raise failures[0]

    async def _ask(self, prompt: str) -> Answer:
        body = {
            "model": self.settings.model,
            "prompt": prompt.removeprefix(self._added),
            "max_tokens": self.max_new_tokens,
            "temperature": 0,
        }
        return await self._endpoint.post("completions", body, self._read)

    def _read(self, content: Any) -> Answer:
        (choice,) = content["choices"]
        text = read_text(choice["text"], choice)
        num_tokens = content["usage"]["completion_tokens"]
        if choice["finish_reason"] == "length":
            return Answer.of(text, num_tokens, "length")
        # vLLM names the token that it stopped at where that is not the tokenizer's end token.
        stop = choice.get("stop_reason")
        is_other = isinstance(stop, int) and stop != self.profile.end_of_turn
        return Answer.of(text, num_tokens, "other_end" if is_other else "stop")
