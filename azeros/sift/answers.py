"""The language model's answers to many prompts: each distinct one asked once, kept so that a killed run goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from azeros.params import LocalBackend

if TYPE_CHECKING:
    from azeros.params import Sift
    from azeros.sift.profile import LLMProfile

TRUNCATED = "<|truncated|>"
FinishReason = Literal["stop", "length", "other_end", "refused"]
"""It ended its turn, used up its tokens, or ended at a token that is not the turn's; or its server refused the prompt."""


@dataclass(frozen=True)
class Answer:
    """What the language model wrote."""

    text: str
    """Ends in `<|truncated|>` where the model did not end its turn; the server's reason where it refused."""
    num_tokens: int
    finish_reason: FinishReason

    @classmethod
    def of(cls, text: str, num_tokens: int, finish_reason: FinishReason) -> Answer:
        """An answer of generated `text`, marked where it is cut off."""
        return cls(text if finish_reason == "stop" else text + TRUNCATED, num_tokens, finish_reason)


Finished = Callable[[int, list[Answer]], object]
"""Told the number of a batch, and its answers."""


class Backend(Protocol):
    """Where the language model runs: `LocalLLM` or `ServedLLM`. Decoding is greedy."""

    @property
    def identity(self) -> dict[str, Any]:
        """What answers may depend on beside prompts and model: answers of two identities are never mixed."""

    def batches(self, prompts: Sequence[str]) -> list[list[int]]:
        """Indices of prompts that are answered together; depends on nothing but `prompts`."""

    def answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
        """Answer numbered batches of prompts, telling `finished` of each, in any order."""


def make_backend(profile: LLMProfile, settings: Sift) -> Backend:
    """The backend that the settings name.

    Raises:
        ModelError: the model does not load.
        EndpointError: there is no key for its server.
    """
    if isinstance(settings.backend, LocalBackend):
        from azeros.sift.local import LocalLLM

        return LocalLLM(profile, settings.max_new_tokens, settings.backend.batch_size)
    from azeros.sift.served import ServedLLM

    return ServedLLM(profile, settings.max_new_tokens, settings.backend)


def answer_all(
    backend: Backend,
    prompts: Sequence[str],
    advance: Callable[[int], object],
    store: Path | None = None,
) -> list[Answer]:
    """Answers to all `prompts`, in their order.

    Each finished batch is a line of the file `store`; a run that finds lines there asks for the rest only. As
    batches depend on nothing but the prompts, it ends with what an uninterrupted run would. A store of refusals alone
    counts for nothing: it may be the server that was not right.

    Args:
        backend: where the language model runs.
        prompts: rendered.
        advance: called with every number of prompts that are done.
        store: file for unfinished work, of the same prompts and settings.

    Raises:
        EndpointError: a server cannot be reached, or refuses all; what was finished is kept.
    """
    times = Counter(prompts)
    distinct = list(times)
    batches = [[distinct[index] for index in batch] for batch in backend.batches(distinct)]
    answers: dict[str, Answer] = {}

    def take(number: int, found: list[Answer]) -> None:
        answers.update(zip(batches[number], found, strict=True))
        advance(sum(times[prompt] for prompt in batches[number]))

    done = _stored(store) if store else {}
    for number, found in done.items():
        take(number, found)
    missing = {number: batch for number, batch in enumerate(batches) if number not in done}
    with ExitStack() as stack:
        stream = stack.enter_context(store.open("a", encoding="utf-8")) if store else None

        def keep(number: int, found: list[Answer]) -> None:
            if stream:
                stream.write(json.dumps([number, [asdict(answer) for answer in found]]) + "\n")
                stream.flush()
            take(number, found)

        if missing:
            backend.answer(missing, keep)
    return [answers[prompt] for prompt in prompts]


def _stored(store: Path) -> dict[int, list[Answer]]:
    """The finished batches of an earlier run by number; a line that it did not finish is cut off."""
    if not store.exists():
        return {}
    whole = store.read_bytes()
    lines = whole[: whole.rfind(b"\n") + 1]
    if len(lines) < len(whole):
        with store.open("r+b") as stream:
            stream.truncate(len(lines))
    batches = (json.loads(line) for line in lines.splitlines())
    stored = {number: [Answer(**answer) for answer in found] for number, found in batches}
    if all(answer.finish_reason == "refused" for found in stored.values() for answer in found):
        store.write_bytes(b"")
        return {}
    return stored
