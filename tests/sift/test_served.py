"""A model behind a server gives the answers that it gives here; what a server does wrong is named, or tried again."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from lhotse import SupervisionSegment

from azeros.errors import StageError
from azeros.params import OpenAIBackend, Pretrained, load_params
from azeros.sift import served
from azeros.sift.answers import Answer, answer_all
from azeros.sift.local import LocalLLM
from azeros.sift.profile import LLMProfile, read_profile
from azeros.sift.prompts import render
from azeros.sift.served import ServedLLM
from azeros.work import is_disk_full
from tests.conftest import ROOT

PROMPTS = [f"<|im_start|>user\n{'x' * (number % 7)}{number}<|im_end|>\n" for number in range(25)]
_PATIENCE_S = 120

Reply = tuple[int, Any]


class Server(ThreadingHTTPServer):
    """Answers each request with what `reply` makes of its body; keeps the bodies."""

    def __init__(self, reply: Callable[[dict[str, Any]], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.lock = threading.Lock()
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.open_now = self.most_at_once = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.asked.append(body)
            server.headers.append(dict(self.headers))
            server.open_now += 1
            server.most_at_once = max(server.most_at_once, server.open_now)
        try:
            status, content = server.reply(body)
        finally:
            with server.lock:
                server.open_now -= 1
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def completion(text: str, finish_reason: str = "stop", **more: Any) -> Reply:
    choice = {"text": text, "finish_reason": finish_reason, **more}
    return 200, {"choices": [choice], "usage": {"completion_tokens": len(text)}}


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[dict[str, Any]], Reply]], Server]]:
    servers: list[Server] = []

    def start(reply: Callable[[dict[str, Any]], Reply]) -> Server:
        servers.append(Server(reply))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_FIRST_WAIT_S", 0.01)


def connect(profile: LLMProfile, port: int, model: str = "m", **more: Any) -> ServedLLM:
    settings = {"api_key_variable": None, "max_concurrency": 4, "timeout_s": 60.0, "max_tries": 3} | more
    backend = OpenAIBackend(kind="openai", base_url=f"http://127.0.0.1:{port}/v1", model=model, **settings)
    return ServedLLM(profile, 12, backend)


def test_what_is_asked_and_what_comes_of_it(
    profile: LLMProfile, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    ends: dict[str, dict[str, Any]] = {"a": {}, "b": {"finish_reason": "length"}, "c": {"stop_reason": 1}}
    server = serve(lambda body: completion(body["prompt"] * 2, **ends[body["prompt"]]))
    found = answer_all(
        connect(profile, server.server_port, api_key_variable="MY_KEY"), ["a", "b", "c"], lambda num: None
    )
    assert [answer.text for answer in found] == ["aa", "bb<|truncated|>", "cc<|truncated|>"]
    assert [answer.finish_reason for answer in found] == ["stop", "length", "other_end"]
    assert {answer.num_tokens for answer in found} == {2}
    asked = {"model": "m", "prompt": "a", "max_tokens": 12, "temperature": 0}
    assert asked in server.asked
    assert server.headers[0]["Authorization"] == "Bearer secret"
    with pytest.raises(StageError, match="no key in the environment variable OTHER_KEY"):
        connect(profile, server.server_port, api_key_variable="OTHER_KEY")


def test_requests_run_at_once_up_to_the_bound(profile: LLMProfile, serve: Callable[..., Server]) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        time.sleep(0.05)
        return completion(body["prompt"])

    server = serve(reply)
    prompts = [str(number) for number in range(24)]
    found = answer_all(connect(profile, server.server_port, max_concurrency=5), prompts, lambda num: None)
    assert [answer.text for answer in found] == prompts
    assert 1 < server.most_at_once <= 5


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_tried_again(
    profile: LLMProfile, serve: Callable[..., Server], status: int
) -> None:
    failed: set[str] = set()

    def reply(body: dict[str, Any]) -> Reply:
        if body["prompt"] in failed:
            return completion("fine")
        failed.add(body["prompt"])
        return status, "busy"

    server = serve(reply)
    found = answer_all(connect(profile, server.server_port), ["a", "b"], lambda num: None)
    assert [answer.text for answer in found] == ["fine", "fine"]
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("reply", "num_asked", "words"),
    [
        ((503, "worn out"), 3, r"status 503 \(worn out\), 3 times"),
        ((404, {"error": "no model m"}), 1, "status 404 .*no model m"),
        ((200, "<html>"), 1, "not a completion"),
        ((200, {"choices": []}), 1, "not a completion"),
    ],
)
def test_lasting_trouble_is_named_and_finished_rows_are_kept(
    profile: LLMProfile,
    serve: Callable[..., Server],
    tmp_path: Path,
    reply: Reply,
    num_asked: int,
    words: str,
) -> None:
    server = serve(lambda body: completion("fine") if body["prompt"] != "bad" else reply)
    llm = connect(profile, server.server_port, max_concurrency=1)
    with pytest.raises(StageError, match=rf"127\.0\.0\.1.*{words}.*correct sift\.backend"):
        answer_all(llm, ["a", "b", "bad", "c"], lambda num: None, tmp_path / "store.jsonl")
    assert sum(body["prompt"] == "bad" for body in server.asked) == num_asked
    server.reply = lambda body: completion("fine")
    answer_all(llm, ["a", "b", "bad", "c"], lambda num: None, tmp_path / "store.jsonl")
    assert [sum(body["prompt"] == prompt for body in server.asked) for prompt in "ab"] == [1, 1]


def test_a_server_that_is_not_there_or_does_not_answer(
    profile: LLMProfile, serve: Callable[..., Server]
) -> None:
    with pytest.raises(StageError, match=r"no answer \(ConnectError.*3 times; start the server"):
        answer_all(connect(profile, free_port()), ["a"], lambda num: None)

    def sleep(body: dict[str, Any]) -> Reply:
        time.sleep(0.5)
        return completion("late")

    server = serve(sleep)
    with pytest.raises(StageError, match=r"no answer \(ReadTimeout"):
        answer_all(connect(profile, server.server_port, timeout_s=0.1), ["a"], lambda num: None)


def test_a_full_disk_is_said_as_it_is(profile: LLMProfile, serve: Callable[..., Server]) -> None:
    server = serve(lambda body: completion("fine"))

    def finished(number: int, answers: list[Answer]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        connect(profile, server.server_port).answer({0: ["a"], 1: ["b"]}, finished)
    assert is_disk_full(caught.value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """That of a `transformers serve`."""
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
        yield number
    finally:
        process.kill()
        process.wait()


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_transformers_serve_gives_the_answers_of_the_model_here(profile: LLMProfile, port: int) -> None:
    local = answer_all(LocalLLM(profile, 12, 8), PROMPTS, lambda num: None)
    found = answer_all(connect(profile, port, profile.llm.path), PROMPTS, lambda num: None)
    assert {answer.finish_reason for answer in local} == {"stop", "length"}
    # This server says "length" also where the last token allowed is the end token.
    sure = [index for index, a in enumerate(local) if a.num_tokens < 12 or a.finish_reason == "length"]
    assert [found[index] for index in sure] == [local[index] for index in sure]
    assert len(sure) > 20


@pytest.mark.slow
def test_the_tiny_llm_answers_alike_behind_transformers_serve(port: int) -> None:
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
    llm = connect(tiny, port, tiny.llm.path)
    llm.max_new_tokens = 40
    assert answer_all(llm, prompts, lambda num: None) == local
