"""A model behind a server gives the answers that it gives here; what a server does wrong is named, or tried again."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lhotse import SupervisionSegment

from azeros import endpoint
from azeros.errors import EndpointError
from azeros.params import OpenAIBackend, Pretrained, load_params
from azeros.sift.answers import Answer, answer_all
from azeros.sift.local import LocalLLM
from azeros.sift.profile import LLMProfile, read_profile
from azeros.sift.prompts import render
from azeros.sift.served import ServedLLM
from azeros.work import is_disk_full
from tests.conftest import ROOT
from tests.openai_server import KEY, Reply, serve

PROMPTS = [f"<|im_start|>user\n{'x' * (number % 7)}{number}<|im_end|>\n" for number in range(25)]
_PATIENCE_S = 120


def text_completion(text: str, finish_reason: str = "stop", **more: Any) -> Reply:
    choice = {"text": text, "finish_reason": finish_reason, **more}
    content = {"choices": [choice], "usage": {"completion_tokens": len(text)}}
    return 200, {}, json.dumps(content).encode()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_S", 0.01)


def connect(profile: LLMProfile, base_url: str, model: str = "m", **more: Any) -> ServedLLM:
    settings: dict[str, Any] = {
        "api_key_variable": "MY_KEY",
        "max_concurrency": 4,
        "timeout_s": 60.0,
        "max_tries": 3,
    } | more
    return ServedLLM(profile, 12, OpenAIBackend(kind="openai", base_url=base_url, model=model, **settings))


def test_what_is_asked_and_what_comes_of_it(profile: LLMProfile) -> None:
    ends: dict[str, dict[str, Any]] = {"a": {}, "b": {"finish_reason": "length"}, "c": {"stop_reason": 1}}
    with serve(lambda _, body: text_completion(body["prompt"] * 2, **ends[body["prompt"]])) as server:
        found = answer_all(connect(profile, server.base_url), ["a", "b", "c"], lambda num: None)
    assert [answer.text for answer in found] == ["aa", "bb<|truncated|>", "cc<|truncated|>"]
    assert [answer.finish_reason for answer in found] == ["stop", "length", "other_end"]
    assert {answer.num_tokens for answer in found} == {2}
    assert set(server.paths) == {"/v1/completions"}
    assert {"model": "m", "prompt": "a", "max_tokens": 12, "temperature": 0} in server.bodies
    with pytest.raises(EndpointError, match="set OTHER_KEY to the key of http"):
        connect(profile, server.base_url, api_key_variable="OTHER_KEY")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((503, {}, b"worn out"), r"failed 3 times, at last with HTTP 503 worn out"),
        ((404, {}, b"no model m"), "HTTP 404 no model m"),
        ((200, {}, b'{"choices": [{"text": "no usage"}]}'), "no answer .*no usage"),
    ],
)
def test_lasting_trouble_is_named_and_finished_rows_are_kept(
    profile: LLMProfile, tmp_path: Path, reply: Reply, words: str
) -> None:
    store = tmp_path / "store.jsonl"

    def broken(number: int, body: dict[str, Any]) -> Reply:
        return text_completion("fine") if body["prompt"] != "bad" else reply

    with serve(broken) as server:
        llm = connect(profile, server.base_url, max_concurrency=1)
        with pytest.raises(EndpointError, match=rf"127\.0\.0\.1.*{words}.*mend sift\.backend"):
            answer_all(llm, ["a", "b", "bad", "c"], lambda num: None, store)
        server.reply = lambda number, body: text_completion("fine")
        answer_all(llm, ["a", "b", "bad", "c"], lambda num: None, store)
    assert [sum(body["prompt"] == prompt for body in server.bodies) for prompt in "ab"] == [1, 1]


def test_a_prompt_that_is_refused_stops_no_other_and_is_not_asked_again(
    profile: LLMProfile, tmp_path: Path
) -> None:
    refusals = {"bad": (400, {}, b"content policy"), "cut": text_completion("I wi", "content_filter")}
    prompts, store = ["a", "bad", "b", "cut", "c"], tmp_path / "store.jsonl"
    with serve(lambda _, body: refusals.get(body["prompt"], text_completion("fine"))) as server:
        found = answer_all(connect(profile, server.base_url), prompts, lambda num: None, store)
        num_asked = len(server.bodies)
        assert answer_all(connect(profile, server.base_url), prompts, lambda num: None, store) == found
    assert len(server.bodies) == num_asked == 3 + 1 + 3
    assert [answer.finish_reason for answer in found] == ["stop", "refused", "stop", "refused", "stop"]
    assert "HTTP 400 content policy" in found[1].text
    assert "a reply without text (finish_reason content_filter)" in found[3].text


def test_a_server_that_refused_all_is_asked_again(profile: LLMProfile, tmp_path: Path) -> None:
    store = tmp_path / "store.jsonl"
    with serve(lambda *_: (400, {}, b"no max_tokens")) as server:
        answer_all(connect(profile, server.base_url), ["a", "b"], lambda num: None, store)
        server.reply = lambda number, body: text_completion("fine")
        found = answer_all(connect(profile, server.base_url), ["a", "b"], lambda num: None, store)
    assert [answer.text for answer in found] == ["fine", "fine"]


def test_calls_under_way_when_one_fails_are_kept(profile: LLMProfile, tmp_path: Path) -> None:
    failed, store = threading.Event(), tmp_path / "store.jsonl"

    def reply(number: int, body: dict[str, Any]) -> Reply:
        if body["prompt"] == "bad":
            failed.set()
            return 403, {}, b"the account is closed"
        failed.wait(10)
        time.sleep(0.3)
        return text_completion("late")

    with serve(reply) as server:
        llm = connect(profile, server.base_url)
        with pytest.raises(EndpointError, match="the account is closed"):
            answer_all(llm, ["a", "bad", "b", "c", "d", "e"], lambda num: None, store)
    assert sorted(json.loads(line)[0] for line in store.read_text().splitlines()) == [0, 2, 3]
    assert len(server.bodies) == 4


def test_a_full_disk_is_said_as_it_is(profile: LLMProfile) -> None:
    def finished(number: int, answers: list[Answer]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        serve(lambda number, body: text_completion("fine")) as server,
        pytest.raises(OSError, match="No space left") as caught,
    ):
        connect(profile, server.base_url).answer({0: ["a"], 1: ["b"]}, finished)
    assert is_disk_full(caught.value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def transformers_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base_url of a `transformers serve`."""
    number = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(number), "--device", "cpu", "--dtype", "float32"]
    log = tmp_path_factory.mktemp("serve") / "log"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _is_healthy(number):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{number}/v1"
    finally:
        process.kill()
        process.wait()


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_transformers_serve_gives_the_answers_of_the_model_here(
    profile: LLMProfile, transformers_url: str
) -> None:
    local = answer_all(LocalLLM(profile, 12, 8), PROMPTS, lambda num: None)
    found = answer_all(connect(profile, transformers_url, profile.llm.path), PROMPTS, lambda num: None)
    assert {answer.finish_reason for answer in local} == {"stop", "length"}
    # This server says "length" also where the last token allowed is the end token.
    sure = [index for index, a in enumerate(local) if a.num_tokens < 12 or a.finish_reason == "length"]
    assert [found[index] for index in sure] == [local[index] for index in sure]
    assert len(sure) > 20


@pytest.mark.slow
def test_the_tiny_llm_answers_alike_behind_transformers_serve(transformers_url: str) -> None:
    settings = load_params(ROOT / "params.yaml").sift
    tiny = read_profile(Pretrained(path=str(ROOT / "azeros/tiny/weights/llm"), revision=None))
    said = [
        SupervisionSegment("a", "a", 0.0, 1.0, text=text, language=language, gender="female")
        for text, language in (
            ("turn on the radio", "en"),
            ("Is it sunny in Tokyo", "en"),
            ("今天天气很好", "zh"),
        )
    ]
    prompts = [render(mode, s, settings).prompt for s in said for mode in ("sift_s", "sit_sp", "sit_ssp")]
    local = answer_all(LocalLLM(tiny, 40, 3), prompts, lambda num: None)
    llm = connect(tiny, transformers_url, tiny.llm.path)
    llm.max_new_tokens = 40
    assert answer_all(llm, prompts, lambda num: None) == local
