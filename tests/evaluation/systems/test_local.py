"""Systems in this process answer as the model itself does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from azeros.evaluation.systems.base import Recording, Reply, Request, answer_apart
from azeros.evaluation.systems.registry import make_system
from azeros.model.speech_llm import AZerosModel
from azeros.params import AzerosSystem, Pretrained, TextSystem
from tests.conftest import ROOT
from tests.evaluation.official import wav

WEIGHTS = ROOT / "azeros/tiny/weights"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packaged model with fresh projectors."""
    path = tmp_path_factory.mktemp("model")
    parts = [WEIGHTS / name for name in ("llm", "speech_encoder", "paraling_encoder")]
    AZerosModel.from_foundation(*parts, seed=0).save_pretrained(path)
    return path


def request(sound: bytes, instruction: str = "", transcript: str | None = None) -> Request:
    return Request(Recording("one", len(sound), lambda: sound), instruction, transcript)


def test_azeros_hears_the_recording_before_the_instruction(folder: Path) -> None:
    settings = AzerosSystem(
        kind="azeros", path=str(folder), dtype="float32", batch_size=4, max_new_tokens=8, choice_suffix=None
    )
    system = make_system("azeros", {"azeros": settings})
    long, short = wav(1.0), wav(0.5)
    replies = system.respond([request(long), request(short, "who is it?"), request(b"noise")])
    model: Any = AZerosModel.from_pretrained(folder)
    samples = [request(sound).recording.load() for sound in (long, short)]
    for reply, sound, text in zip(replies, samples, ["", " who is it?"], strict=False):
        content = f"{model.audio_token_wrapped}{text}"
        messages = [[{"role": "user", "content": content}]]
        assert reply == Reply(model.generate([sound], messages, max_new_tokens=8)[0])
    assert replies[2].response is None
    assert "one: audio data: unreadable" in str(replies[2].error)


def test_the_text_system_is_the_language_model_within_azeros(folder: Path) -> None:
    llm = Pretrained(path=str(WEIGHTS / "llm"), revision=None)
    settings = TextSystem(
        kind="text", llm=llm, dtype="float32", batch_size=2, max_new_tokens=24, removed=None
    )
    prompts = ["what can you see in the sky?", "tell me about the cat."]
    replies = make_system("text", {"text": settings}).respond(
        [request(b"", transcript=prompt) for prompt in prompts]
    )
    model: Any = AZerosModel.from_pretrained(folder)
    wanted = model.generate([], [[{"role": "user", "content": p}] for p in prompts], max_new_tokens=24)
    assert [reply.response for reply in replies] == wanted
    assert all(np.unique(wanted) != "")


def test_only_the_request_that_fails_has_no_response() -> None:
    calls: list[int] = []

    def answer(requests: Any) -> list[str]:
        calls.append(len(requests))
        if any(r.transcript == "large" for r in requests):
            raise RuntimeError("out of\nmemory")
        return [r.transcript for r in requests]

    replies = answer_apart([request(b"", transcript=text) for text in ("a", "large", "b")], answer)
    assert replies == [Reply("a"), Reply(None, "RuntimeError: out of memory"), Reply("b")]
    assert calls == [3, 1, 1, 1]


def test_what_one_item_raises_is_its_own_failure() -> None:
    def gone() -> bytes:
        raise FileNotFoundError(2, "No such file or directory", "/data/x.wav")

    def answer(requests: Sequence[Request]) -> list[str]:
        for asked in requests:
            asked.recording.load()
            if asked.instruction:
                raise ValueError("expects mel input features\nof length 3000")
        return ["heard"] * len(requests)

    sound = wav(0.5)
    vanished = Request(Recording("x.wav", 1, gone), "", None)
    replies = answer_apart([request(sound), vanished, request(sound, "too long")], answer)
    assert [reply.response for reply in replies] == ["heard", None, None]
    assert "AudioError: x.wav: cannot be read ([Errno 2] No such file" in str(replies[1].error)
    assert replies[2].error == "ValueError: expects mel input features of length 3000"
