"""Answers of the engine are those of `AZerosModel.generate`, whoever else is being answered."""

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import pytest
import torch

from azeros.errors import AudioError, OverloadError, RequestError
from azeros.model.speech_llm import AZerosModel
from azeros.serving.ask import Ask, Event, Finished, Piece
from azeros.serving.audio import Clip
from azeros.serving.engine import Engine
from azeros.serving.observer import Observer
from azeros.serving.sampling import Sampling
from azeros.serving.settings import ServingSettings
from tests.serving.sound import noise

Start = Callable[..., Engine]


class Watch(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.encoded: list[int] = []
        self.outcomes: list[str] = []
        self.changed = threading.Condition()

    def on_step(self, num_rows: int) -> None:
        self.rows.append(num_rows)

    def on_clips(self, num_known: int, num_encoded: int, encoded_s: float) -> None:
        self.encoded.append(num_encoded)

    def on_end(self, outcome: str, num_tokens: int, wrote_s: float) -> None:
        with self.changed:
            self.outcomes.append(outcome)
            self.changed.notify()

    def wait_for(self, outcome: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: outcome in self.outcomes, timeout=60)


@pytest.fixture
def start(tiny_model: AZerosModel) -> Iterator[Start]:
    engines: list[Engine] = []
    torch.set_num_threads(1)

    def started(watch: Watch | None = None, model: Any = tiny_model, **settings: Any) -> Engine:
        engines.append(Engine(model, ServingSettings(**settings), watch))
        return engines[-1]

    yield started
    for engine in engines:
        engine.close()


class Pending:
    """A request that was submitted."""

    def __init__(self, engine: Engine, messages: Sequence[Any], clips: Sequence[Clip], **how: Any) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.ask = Ask(messages, clips, Sampling(**how), self.events.put)
        engine.submit(self.ask)

    def begun(self) -> str:
        """Its first piece."""
        event = self.events.get(timeout=60)
        assert isinstance(event, Piece)
        return event.text

    def answer(self) -> tuple[str, Finished]:
        text = ""
        while not isinstance(event := self.events.get(timeout=60), Finished):
            if isinstance(event, Exception):
                raise event
            text += event.text
        return text, event


def clip(duration_s: float, seed: int) -> Clip:
    return Clip(f"{duration_s} {seed}", noise(duration_s, seed))


def about(*clips: Clip, text: str = "repeat what was said.") -> list[dict[str, Any]]:
    parts = [*(clip.part() for clip in clips), {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


def expected(model: AZerosModel, messages: Sequence[Any], num: int) -> str:
    """What `generate` answers in exactly `num` tokens."""
    exactly: dict[str, Any] = {"max_new_tokens": num, "min_new_tokens": num, "min_length": None}
    (text,) = model.generate([], [messages], by_length=True, **exactly)
    return str(text)


def test_answers_alone_and_among_others_are_those_of_generate(tiny_model: AZerosModel, start: Start) -> None:
    """More requests than places, of unequal clips and lengths: rows join and leave all the time."""
    watch = Watch()
    engine = start(watch, max_batch_size=3)
    clips = [clip(0.5 + 0.3 * index, index) for index in range(5)]
    asked = [(about(own), [own], 5 + 9 * index) for index, own in enumerate(clips)]
    asked.append((about(text="what is the topic?"), [], 12))
    asked.append((about(clips[0], clips[3]), [clips[0], clips[3]], 7))
    answers = [expected(tiny_model, messages, num) for messages, _, num in asked]
    together = [Pending(engine, m, c, max_tokens=num, min_tokens=num) for m, c, num in asked]
    assert [pending.answer()[0] for pending in together] == answers
    assert max(watch.rows) == 3
    (messages, own, num), answer = asked[2], answers[2]
    assert Pending(engine, messages, own, max_tokens=num, min_tokens=num).answer()[0] == answer


def test_an_answer_ends_where_the_model_ends_it(tiny_model: AZerosModel, start: Start) -> None:
    messages = about(text="what is the capital of france?")
    (ids,) = tiny_model.generate([], [messages], return_ids=True)
    text, finished = Pending(start(), messages, []).answer()
    assert ids[-1] == tiny_model.processor.end_token_id
    assert text == tiny_model.processor.decode_answer(ids)
    prompt = tiny_model.processor.encode_inference(messages)
    assert finished == Finished("stop", len(prompt), 0, len(ids))


def test_a_clip_is_encoded_once(start: Start) -> None:
    watch = Watch()
    engine, own = start(watch), clip(1.0, 1)
    (first, finished), again = Pending(engine, about(own), [own]).answer(), about(own)
    second = [*again, {"role": "assistant", "content": first}, *about(text="and now?")]
    Pending(engine, second, [own]).answer()
    assert watch.encoded == [1, 0]
    assert 0 < finished.num_audio_tokens < finished.num_prompt_tokens


def test_without_a_cache_a_clip_is_encoded_again(start: Start) -> None:
    watch = Watch()
    engine, own = start(watch, audio_cache_mb=0), clip(1.0, 1)
    answers = [Pending(engine, about(own), [own]).answer() for _ in range(2)]
    assert watch.encoded == [1, 1]
    assert answers[0] == answers[1]


def test_a_cancelled_request_frees_its_place(start: Start) -> None:
    watch = Watch()
    engine = start(watch, max_batch_size=1)
    long = Pending(engine, about(text="hello"), [], max_tokens=3000, min_tokens=3000)
    waiting, other = (Pending(engine, about(text="hello"), []) for _ in range(2))
    long.begun()
    waiting.ask.cancel()
    long.ask.cancel()
    assert other.answer()[0]
    assert watch.outcomes == ["cancelled", "cancelled", "stop"]


def test_more_than_the_queue_holds_is_refused(start: Start) -> None:
    engine = start(max_batch_size=1, max_queue_size=1)
    long = Pending(engine, about(text="hello"), [], max_tokens=3000, min_tokens=3000)
    long.begun()
    waiting = Pending(engine, about(text="hello"), [])
    with pytest.raises(OverloadError, match="1 requests are waiting"):
        Pending(engine, about(text="hello"), [])
    long.ask.cancel()
    assert waiting.answer()[0]


def test_who_goes_leaves_the_queue_at_once(start: Start) -> None:
    watch = Watch()
    engine = start(watch, max_batch_size=1, max_queue_size=1)
    long = Pending(engine, about(text="hello"), [], max_tokens=3000, min_tokens=3000)
    long.begun()
    Pending(engine, about(text="hello"), []).ask.cancel()
    watch.wait_for("cancelled")
    other = Pending(engine, about(text="hello"), [])
    assert not long.ask.is_over
    long.ask.cancel()
    assert other.answer()[0]


def test_closing_answers_what_was_asked(tiny_model: AZerosModel, start: Start) -> None:
    engine = start(max_batch_size=1)
    pending = [Pending(engine, about(text="hello"), [], max_tokens=40, min_tokens=40) for _ in range(2)]
    engine.close()
    assert {own.answer()[0] for own in pending} == {expected(tiny_model, about(text="hello"), 40)}
    assert not engine.is_alive
    with pytest.raises(OverloadError, match="stopping"):
        Pending(engine, about(text="hello"), [])


def test_too_long_a_conversation_is_refused(start: Start) -> None:
    engine, own = start(), clip(1.0, 1)
    with pytest.raises(RequestError, match="more than the 4096"):
        Pending(engine, about(), [], max_tokens=4090)
    text_alone = len(Pending(engine, about(own), [own], max_tokens=1).ask.ids)
    pending = Pending(engine, about(own), [own], max_tokens=4096 - text_alone)
    with pytest.raises(RequestError, match="more than the 4096"):
        pending.answer()


def test_megabytes_of_text_are_refused_before_they_are_tokens(
    tiny_model: AZerosModel, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    tokenize = type(tiny_model.tokenizer).__call__

    def counting(self: Any, text: Any, *args: Any, **how: Any) -> Any:
        read.append(len(text))
        return tokenize(self, text, *args, **how)

    engine = start()
    monkeypatch.setattr(type(tiny_model.tokenizer), "__call__", counting)
    for text in ("the red bus " * 200_000, "x" * 2_000_000):
        with pytest.raises(RequestError, match=r"more text than the .* tokens"):
            Pending(engine, [{"role": "user", "content": [{"type": "text", "text": text}]}], [])
    assert sum(read) < 1_000_000


def test_a_clip_that_cannot_be_encoded_fails_alone(tiny_model: AZerosModel, start: Start) -> None:
    engine = start()
    busy = Pending(engine, about(text="hello"), [], max_tokens=60, min_tokens=60)
    short, good = clip(0.05, 1), clip(1.0, 2)
    pending = [Pending(engine, about(own), [own]) for own in (short, good)]
    with pytest.raises(AudioError):
        pending[0].answer()
    assert pending[1].answer()[0]
    assert busy.answer()[0] == expected(tiny_model, about(text="hello"), 60)


def test_a_fault_of_the_model_ends_what_runs_and_nothing_else(
    tiny_model: AZerosModel, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start()
    forward = tiny_model.llm.forward

    def broken(*args: Any, **kwargs: Any) -> Any:
        if "input_ids" in kwargs:
            raise torch.OutOfMemoryError
        return forward(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(tiny_model.llm, "forward", broken)
        with pytest.raises(torch.OutOfMemoryError):
            Pending(engine, about(text="hello"), [], min_tokens=4).answer()
    text, _ = Pending(engine, about(text="hello"), [], max_tokens=9, min_tokens=9).answer()
    assert text == expected(tiny_model, about(text="hello"), 9)


def test_a_seed_draws_the_same_answer_in_any_company(start: Start) -> None:
    engine = start()
    how: dict[str, Any] = {"max_tokens": 20, "min_tokens": 20, "temperature": 1.5, "top_p": 0.95}
    alone = Pending(engine, about(text="hello"), [], seed=7, **how).answer()
    crowd = [Pending(engine, about(text="hello"), [], seed=seed, **how) for seed in (5, 7, 9)]
    answers = [pending.answer() for pending in crowd]
    assert answers[1] == alone
    assert len({text for text, _ in answers}) == 3


def test_a_stop_string_ends_the_answer_before_it(tiny_model: AZerosModel, start: Start) -> None:
    whole = expected(tiny_model, about(text="hello"), 30)
    stop = whole[len(whole) // 2 :][:4]
    text, finished = Pending(
        start(), about(text="hello"), [], max_tokens=30, min_tokens=30, stop=(stop,)
    ).answer()
    assert text == whole[: whole.index(stop)]
    assert finished.reason == "stop"
    assert finished.num_new_tokens < 30
