"""One policy towards servers: what passes is waited out, what lasts is named, and nothing is asked more often than needed."""

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from azeros import endpoint
from azeros.endpoint import ChatCompletion, Endpoint, RefusedError
from azeros.errors import EndpointError
from azeros.params import Server
from tests.openai_server import KEY, OpenAIServer, Reply, completion, serve

NOBODY = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", KEY)
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_S", 0.01)


def ask(server: OpenAIServer | str, *questions: str, **update: Any) -> Sequence[ChatCompletion]:
    """The answers to questions that are asked at once."""
    base_url = server if isinstance(server, str) else server.base_url
    settings: dict[str, Any] = {
        "api_key_variable": "KEY",
        "max_concurrency": 4,
        "max_tries": 3,
        "timeout_s": 10.0,
    }
    there = Endpoint(Server(base_url=base_url, **settings | update), "some.section")

    async def ask_all() -> Sequence[ChatCompletion]:
        async with there:
            asked = ({"question": question} for question in questions or ["?"])
            return await asyncio.gather(
                *(there.post("chat/completions", body, ChatCompletion.read) for body in asked)
            )

    return asyncio.run(ask_all())


def after(failures: int, failure: Reply) -> Any:
    """A reply that fails so many times."""
    return lambda number, body: failure if number < failures else completion("yes")


def test_a_question_is_sent_as_it_is_and_its_answer_read() -> None:
    with serve(lambda number, body: completion("yes", "no", tokens=7, model="m-2025")) as server:
        assert ask(server, "what?") == [ChatCompletion(["yes", "no"], "m-2025", 7)]
    assert (server.paths, server.bodies) == (["/v1/chat/completions"], [{"question": "what?"}])


@pytest.mark.parametrize(
    "failure",
    [
        (408, {}, b"late"),
        (409, {}, b"twice"),
        (429, {"Retry-After": "0"}, b"slow down"),
        (429, {"Retry-After": "soon"}, b"slow down"),
        (500, {}, b"oops"),
        (503, {}, b""),
        (200, {}, b"<html>garbage"),
        (200, {}, b"[]"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": {"content": null}}]}'),
        (200, {"Content-Length": "99"}, b"cut sho"),
    ],
)
def test_what_passes_is_waited_out(failure: Reply) -> None:
    with serve(after(2, failure)) as server:
        assert ask(server)[0].answers == ["yes"]
    assert len(server.bodies) == 3


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_is_left_alone_for_as_long_as_it_asks(as_date: bool) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)  # whole seconds
    with serve(after(1, (503, {"Retry-After": date if as_date else "1"}, b""))) as server:
        started = time.monotonic()
        ask(server)
        assert 0.9 < time.monotonic() - started < 4


def test_each_wait_is_longer_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_S", 0.5)
    for attempt, longest_s in ((1, 0.5), (2, 1.0), (5, 8.0), (50, 60.0)):
        waits_s = [endpoint._backoff_s(attempt) for _ in range(200)]
        assert longest_s / 2 <= min(waits_s) < max(waits_s) <= longest_s


def test_what_lasts_is_named() -> None:
    with serve(after(99, (503, {}, b"worn out"))) as server, pytest.raises(EndpointError) as caught:
        ask(server)
    assert len(server.bodies) == 3
    assert str(caught.value).startswith(f"{server.base_url}: failed 3 times, at last with HTTP 503 worn out;")
    assert "mend some.section, then run the same command again" in str(caught.value)
    with pytest.raises(EndpointError, match="failed 2 times, at last with ConnectError"):
        ask(NOBODY, max_tries=2)
    with pytest.raises(EndpointError, match=r"not a URL .*mend some.section"):
        ask("http://xn--\u0378/v1")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_refused_is_sent_once(status: int) -> None:
    with (
        serve(after(1, (status, {}, b"content policy"))) as server,
        pytest.raises(RefusedError, match=f"HTTP {status} content policy"),
    ):
        ask(server)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ({"message": {"content": None}, "finish_reason": "length"}, "finish_reason length"),
        ({"message": {}, "finish_reason": "content_filter: PROHIBITED"}, "content_filter: PROHIBITED"),
        ({"message": {"content": "I wi"}, "finish_reason": "content_filter"}, "content_filter"),
        ({"message": {"content": None, "refusal": "I cannot help"}}, "I cannot help"),
    ],
)
def test_a_reply_that_stays_without_text_is_one_request_s_own(choice: dict[str, Any], why: str) -> None:
    silent = json.dumps({"choices": [choice] * 2}).encode()
    with (
        serve(after(99, (200, {}, silent))) as server,
        pytest.raises(RefusedError, match=f"a reply without text .*{why}"),
    ):
        ask(server)
    assert len(server.bodies) == 3


def test_of_several_answers_those_with_text_are_read() -> None:
    choices = [{"message": {"content": text}} for text in (None, "yes")]
    with serve(after(1, (200, {}, json.dumps({"choices": choices}).encode()))) as server:
        assert ask(server) == [ChatCompletion(["yes"], None, 0)]


@pytest.mark.parametrize("status", [301, 403, 404, 405, 451])
def test_a_server_that_refuses_all_is_asked_once(status: int) -> None:
    with (
        serve(after(1, (status, {}, b"no model m"))) as server,
        pytest.raises(
            EndpointError, match=f"HTTP {status} no model m; mend some.section or the key"
        ) as caught,
    ):
        ask(server)
    assert len(server.bodies) == 1
    assert not isinstance(caught.value, RefusedError)


def test_a_wrong_and_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(after(0, completion())) as server:
        monkeypatch.setenv("KEY", "wrong")
        with pytest.raises(EndpointError, match=r"HTTP 401 .*Incorrect API key.* or the key in KEY"):
            ask(server)
        with pytest.raises(EndpointError, match=r"HTTP 401 .*mend some.section$"):
            ask(server, api_key_variable=None)
    monkeypatch.delenv("KEY")
    with pytest.raises(EndpointError, match=f"set KEY to the key of {NOBODY}"):
        ask(NOBODY)


def test_a_server_that_does_not_answer_in_time_is_asked_again() -> None:
    released = threading.Event()

    def reply(number: int, body: dict[str, Any]) -> Reply:
        if number == 0:
            released.wait(10)
        return completion("yes")

    with serve(reply) as server:
        started = time.monotonic()
        assert ask(server, timeout_s=0.3)[0].answers == ["yes"]
        assert time.monotonic() - started < 8
        released.set()


def test_no_more_requests_run_at_once_than_allowed() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def reply(number: int, body: dict[str, Any]) -> Reply:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return completion(body["question"])

    questions = [str(number) for number in range(12)]
    with serve(reply) as server:
        answers = ask(server, *questions, max_concurrency=3)
    assert [answer.answers for answer in answers] == [[question] for question in questions]
    assert most == 3
