"""Judge many requests at once, each answer kept as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from azeros.endpoint import ChatCompletion, Endpoint, RefusedError
from azeros.errors import EndpointError
from azeros.evaluation.judging.ledger import Judgement, Ledger, key_of
from azeros.progress import track

if TYPE_CHECKING:
    from azeros.params import Judge


@dataclass(frozen=True)
class Question:
    """The body of a chat completion, with `n` answers wanted, and whether one can be read."""

    body: dict[str, Any]
    can_read: Callable[[str], bool]

    @property
    def num_samples(self) -> int:
        """How many answers are wanted."""
        return int(self.body.get("n", 1))

    @cached_property
    def request(self) -> dict[str, Any]:
        """What each answer answers."""
        return {name: value for name, value in self.body.items() if name != "n"}

    @cached_property
    def key(self) -> str:
        """Equal for equal requests."""
        return key_of(self.request, 0, 0)


@dataclass
class Verdicts:
    """The answers to each question, none where the judge refuses it, and what they took."""

    answers: list[list[str]]
    refused: dict[int, str]  # index of the question -> why
    served_models: list[str]  # what the endpoint says answered
    num_unreadable: int
    num_calls: int
    num_tokens: int  # counted by the endpoint, or else estimated


def ask_judge(questions: Sequence[Question], settings: Judge, ledger: Ledger) -> Verdicts:
    """Answers from the ledger, and from the endpoint those that it lacks; an answer is in the ledger once given.

    An answer that cannot be read is asked for again, up to `max_attempts` times in all; the last then stands. Where the
    endpoint counts no tokens, the budget goes by the length of what was asked and answered.

    Raises:
        EndpointError: the endpoint fails or refuses every question, or the budget is spent. What was answered is in the
            ledger.
    """
    job = _Job(settings, ledger)
    # Equal questions are asked once.
    missing = {question.key: question for question in questions if _missing(question, settings, ledger)}
    if missing:
        asyncio.run(job.run(list(missing.values())))
    if questions and all(question.key in job.refused for question in questions):
        raise EndpointError(
            f"the judge refuses each of {len(questions)} questions, the first by {job.refused[questions[0].key]};"
            " mend evaluate.judge"
        )
    kept = [
        [] if question.key in job.refused else list(_kept(question, settings, ledger))
        for question in questions
    ]
    return Verdicts(
        answers=[[judgement.answer for judgement in given] for given in kept],
        refused={i: job.refused[q.key] for i, q in enumerate(questions) if q.key in job.refused},
        served_models=sorted({judgement.served_model or "unknown" for given in kept for judgement in given}),
        num_unreadable=sum(
            not question.can_read(judgement.answer)
            for question, given in zip(questions, kept, strict=True)
            for judgement in given
        ),
        num_calls=job.num_calls,
        num_tokens=job.num_tokens,
    )


def _kept(question: Question, settings: Judge, ledger: Ledger) -> Iterator[Judgement]:
    """The judgement that stands, of each sample."""
    for sample in range(question.num_samples):
        judgement = _last(question, sample, settings, ledger)
        assert judgement is not None, "asked above"
        yield judgement


class _Job:
    """Calls to the endpoint; the first failure that is not one question's own ends them all."""

    def __init__(self, settings: Judge, ledger: Ledger) -> None:
        self.refused: dict[str, str] = {}  # key of the question -> why
        self.num_calls = self.num_tokens = 0
        self._settings = settings
        self._ledger = ledger
        self._failure: EndpointError | None = None

    async def run(self, questions: Sequence[Question]) -> None:
        queue = iter(questions)
        async with self._endpoint(len(questions)) as endpoint:
            with track("judge", len(questions)) as advance:
                workers = (
                    self._work(endpoint, queue, advance) for _ in range(self._settings.max_concurrency)
                )
                await asyncio.gather(*workers)
        if self._failure:
            raise self._failure

    def _endpoint(self, num_questions: int) -> Endpoint:
        try:
            return Endpoint(self._settings, "evaluate.judge")
        except EndpointError as error:
            raise EndpointError(
                f"{self._ledger.path}: {num_questions} questions to the judge are not in it; {error}, or take the"
                " ledger that has them"
            ) from error

    async def _work(
        self, endpoint: Endpoint, queue: Iterator[Question], advance: Callable[[int], None]
    ) -> None:
        """Take questions until there are none; a call that is under way when another fails is still kept."""
        for question in queue:
            try:
                while not self._failure and (missing := _missing(question, self._settings, self._ledger)):
                    await self._call(endpoint, question, missing)
            except RefusedError as error:
                self.refused[question.key] = str(error)
            except EndpointError as error:
                self._failure = self._failure or error
            if self._failure:
                return
            advance(1)

    async def _call(self, endpoint: Endpoint, question: Question, missing: list[tuple[int, int]]) -> None:
        if self.num_tokens >= self._settings.budget_tokens:
            raise EndpointError(
                f"{self._ledger.path}: the budget of {self._settings.budget_tokens} tokens a run is spent; what was"
                " judged is kept: run the same command again, or raise evaluate.judge.budget_tokens"
            )
        body = {**question.request, "n": len(missing)} if "n" in question.body else question.request
        completion = await endpoint.post("chat/completions", body, ChatCompletion.read)
        self.num_calls += 1
        self.num_tokens += completion.num_tokens or _estimate(question, completion)
        # An endpoint may give fewer answers than asked for; the rest stays missing.
        for place, ((sample, attempt), answer) in enumerate(zip(missing, completion.answers, strict=False)):
            tokens = 0 if place else completion.num_tokens
            self._ledger.add(
                Judgement(question.request, sample, attempt, answer, completion.served_model, tokens)
            )


def _estimate(question: Question, completion: ChatCompletion) -> int:
    """Tokens of a call, rather too many: one for three bytes, which are a Chinese character or most of a short English word."""
    said = [str(message["content"]) for message in question.body["messages"]] + completion.answers
    return sum(len(text.encode()) for text in said) // 3


def _last(question: Question, sample: int, settings: Judge, ledger: Ledger) -> Judgement | None:
    """The first answer of a sample that can be read, else the last one that is there."""
    last = None
    for attempt in range(settings.max_attempts):
        found = ledger.find(question.request, sample, attempt)
        if found is None:
            return last
        last = found
        if question.can_read(found.answer):
            return last
    return last


def _missing(question: Question, settings: Judge, ledger: Ledger) -> list[tuple[int, int]]:
    """The sample and the attempt of each answer that is still to be asked for."""
    missing = []
    for sample in range(question.num_samples):
        last = _last(question, sample, settings, ledger)
        attempt = last.attempt + 1 if last else 0
        if attempt < settings.max_attempts and not (last and question.can_read(last.answer)):
            missing.append((sample, attempt))
    return missing
