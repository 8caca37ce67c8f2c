"""Whom the questions are put to: the language model with the transcript, and speech LLMs with the sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from azeros.evaluation.asks import Ask
from azeros.progress import track

if TYPE_CHECKING:
    from azeros.model.speech_llm import AZerosModel
    from azeros.training.encoded import EncodedCuts


def text_answers(
    model: AZerosModel, asks: Sequence[Ask], batch_size: int, max_new_tokens: int
) -> dict[Ask, str]:
    """The language model's greedy answers when it reads what the others hear."""

    def answer(batch: Sequence[Ask]) -> list[str]:
        messages = [[{"role": "user", "content": f"{ask.text} {ask.instruction}".strip()}] for ask in batch]
        return model.generate([], messages, max_new_tokens=max_new_tokens)

    return _answer_all("text", asks, lambda ask: len(ask.text) + len(ask.instruction), answer, batch_size)


def speech_answers(
    name: str,
    model: AZerosModel,
    asks: Sequence[Ask],
    encoded: EncodedCuts,
    durations_s: dict[str, float],
    batch_size: int,
    max_new_tokens: int,
) -> dict[Ask, str]:
    """A speech LLM's greedy answers to the sound."""

    def answer(batch: Sequence[Ask]) -> list[str]:
        messages = [
            [{"role": "user", "content": f"{model.audio_token_wrapped} {ask.instruction}".strip()}]
            for ask in batch
        ]
        return model.generate(
            encoded.batch([ask.cut_id for ask in batch]), messages, max_new_tokens=max_new_tokens
        )

    return _answer_all(name, asks, lambda ask: durations_s[ask.cut_id], answer, batch_size)


def _answer_all(
    name: str,
    asks: Sequence[Ask],
    length: Callable[[Ask], float],
    answer: Callable[[Sequence[Ask]], list[str]],
    batch_size: int,
) -> dict[Ask, str]:
    """Answers in batches of one kind and like length: little padding, and answers of like length."""
    order = sorted(asks, key=lambda ask: (ask.kind, length(ask)))
    answers: dict[Ask, str] = {}
    with track(f"evaluate {name}", len(order)) as advance:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            answers |= zip(batch, answer(batch), strict=True)
            advance(len(batch))
    return answers
