"""`azeros judge` against a real server that fails in every way a judge can."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from azeros import endpoint
from tests.evaluation.rows import read_rows, write_rows
from tests.openai_server import KEY, OpenAIServer, Reply, completion, serve
from tests.small import complaint, run, start, write_params

ROWS = [{"prompt": f"question {i}", "response": f"answer {i}"} for i in range(6)]
QA_ROW = {"prompt": "capital?", "reference": "Paris", "response": "Paris"}
CHAT_ROW = {
    "meta_info": "m", "question": "q", "answer_gt": "gold", "path": "a.wav", "task_name": "speech_QA",
    "dataset_name": "d", "response": "mine", "uniq_id": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_S", 0.01)


def command(
    server: OpenAIServer | str, rows: list[Any], *options: str, benchmark: str = "voicebench", **update: Any
) -> list[str]:
    """Write the rows and the settings; the arguments that have the rows judged."""
    base_url = server if isinstance(server, str) else server.base_url
    settings = {"base_url": base_url, "api_key_variable": "JUDGE_KEY", "max_concurrency": 2, "max_tries": 3}
    changes = {f"evaluate.judge.{name}": value for name, value in (settings | update).items()}
    params = write_params(Path("params.yaml"), changes)
    write_rows(Path("a.jsonl"), rows)
    output = "cir.jsonl" if "--exchanged" in options else "judged.jsonl"
    paths = ["a.jsonl", output, "--ledger", "ledger.jsonl", "--params", str(params)]
    return ["judge", benchmark, *paths, *options]


def judge(server: OpenAIServer | str, rows: list[Any], *options: str, **update: Any) -> Result:
    return run(*command(server, rows, *options, **update))


def summary(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def always(*answers: str) -> Callable[[int, dict[str, Any]], Reply]:
    return lambda number, body: completion(*answers[: body.get("n", 1)])


def test_a_judged_file_replays_with_the_network_off() -> None:
    with serve(always("4", " 5\n", "3")) as server:
        first = summary(judge(server, [*ROWS, QA_ROW]))
    assert (first["calls"], first["tokens"], first["unreadable"], first["refused"]) == (7, 70, 0, [])
    assert (first["model"], first["served_models"]) == ("gpt-4o-mini", ["judge-2025"])
    rows = read_rows(Path("judged.jsonl"))
    assert rows == [{**row, "score": ["4", "5", "3"]} for row in [*ROWS, QA_ROW]]
    before = Path("judged.jsonl").read_bytes()
    Path("judged.jsonl").unlink()
    again = summary(judge(server, [*ROWS, QA_ROW]))  # whose server is gone
    assert (again["calls"], again["tokens"]) == (0, 0)
    assert Path("judged.jsonl").read_bytes() == before


def test_half_of_a_character_is_judged_and_replayed() -> None:
    row = {**ROWS[0], "response": "half \ud83d"}
    with serve(always("4", "5", "[[3]] \ud83d")) as server:
        first = summary(judge(server, [row]))
    assert "### [Response]: half \ud83d\n" in server.bodies[0]["messages"][1]["content"]
    again = summary(judge(server, [row]))  # whose server is gone
    assert (first["unreadable"], again["calls"]) == (0, 0)
    assert read_rows(Path("judged.jsonl")) == [{**row, "score": ["4", "5", "[[3]] \ud83d"]}]


def test_each_row_is_asked_about_as_the_official_script_does() -> None:
    with serve(always("5", "5", "5")) as server:
        judge(server, [ROWS[0], QA_ROW], max_concurrency=1)
    open_body, qa_body = server.bodies
    assert (open_body["n"], open_body["temperature"], open_body["model"]) == (3, 0.5, "gpt-4o-mini")
    assert "### [Response]: answer 0" in open_body["messages"][1]["content"]
    assert "### Reference answer\nParis" in qa_body["messages"][1]["content"]


def test_a_row_without_an_answer_is_not_asked_about_and_counted() -> None:
    with serve(always("5", "5", "5")) as server:
        result = summary(judge(server, [{**ROWS[0], "response": None}, ROWS[1]]))
    assert (result["calls"], result["unanswered"]) == (1, 1)
    assert [row["score"] for row in read_rows(Path("judged.jsonl"))] == [[], ["5"] * 3]


def test_equal_rows_are_asked_about_once() -> None:
    with serve(always("5", "5", "5")) as server:
        assert summary(judge(server, [ROWS[0]] * 3 + [ROWS[1]]))["calls"] == 2
    assert [row["score"] for row in read_rows(Path("judged.jsonl"))] == [["5"] * 3] * 4


def test_a_failure_that_stays_ends_the_run_and_loses_nothing() -> None:
    with serve(
        lambda number, body: completion("4", "4", "4") if number < 3 else (503, {}, b"down")
    ) as server:
        result = judge(server, ROWS, max_concurrency=1)
        line = complaint(result.stderr)
        assert "failed 3 times, at last with HTTP 503 down" in line
        assert "run the same command again" in line
        assert not Path("judged.jsonl").exists()
        assert len(server.bodies) == 3 + 3
        server.reply = always("4", "4", "4")
        assert summary(judge(server, ROWS))["calls"] == 3


def test_a_killed_run_goes_on_where_it_was() -> None:
    def reply(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.2)
        return completion("4", "4", "4")

    with serve(reply) as server:
        process = start(*command(server, ROWS, max_concurrency=1))
        deadline = time.monotonic() + 60
        while len(server.bodies) < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()
        num_asked, num_kept = len(server.bodies), Path("ledger.jsonl").read_bytes().count(b"\n")
        assert num_kept >= 3 * (num_asked - 1)
        server.reply = always("4", "4", "4")
        assert summary(judge(server, ROWS))["calls"] == len(ROWS) - num_kept // 3
    assert len(read_rows(Path("judged.jsonl"))) == len(ROWS)


def test_a_wrong_key_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(always("5")) as server:
        monkeypatch.setenv("JUDGE_KEY", "wrong")
        line = complaint(judge(server, ROWS).stderr)
        assert "HTTP 401" in line
        assert "Incorrect API key" in line
        assert "the key in JUDGE_KEY" in line
        monkeypatch.delenv("JUDGE_KEY")
        line = complaint(judge(server, ROWS).stderr)
    assert "6 questions to the judge are not in it; set JUDGE_KEY" in line
    assert server.bodies == []


def test_an_unreadable_judgement_is_asked_again_and_then_counted() -> None:
    replies = [completion("4", "four", "n/a"), completion("3", "n/a"), completion("n/a")]
    with serve(lambda number, body: replies[number]) as server:
        result = summary(judge(server, ROWS[:1]))
    assert [body["n"] for body in server.bodies] == [3, 2, 1]
    assert (result["calls"], result["unreadable"]) == (3, 1)
    assert read_rows(Path("judged.jsonl"))[0]["score"] == ["4", "3", "n/a"]


def test_an_endpoint_that_gives_one_answer_at_a_time_is_asked_for_the_others() -> None:
    with serve(lambda number, body: completion(str(number))) as server:
        assert summary(judge(server, ROWS[:1]))["calls"] == 3
    assert read_rows(Path("judged.jsonl"))[0]["score"] == ["0", "1", "2"]


def test_a_row_whose_judgement_stays_without_text_is_refused() -> None:
    silent = {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}] * 3}

    def reply(number: int, body: dict[str, Any]) -> Reply:
        if "question 2" in body["messages"][1]["content"]:
            return 200, {}, json.dumps(silent).encode()
        return completion("4", "4", "4")

    with serve(reply) as server:
        (line,) = summary(judge(server, ROWS))["refused"]
    assert "a.jsonl line 3" in line
    assert "a reply without text (finish_reason content_filter)" in line
    assert [len(row["score"]) for row in read_rows(Path("judged.jsonl"))] == [3, 3, 0, 3, 3, 3]


def test_a_row_that_the_judge_refuses_is_counted_and_the_others_go_on() -> None:
    def reply(number: int, body: dict[str, Any]) -> Reply:
        if "question 2" in body["messages"][1]["content"]:
            return 400, {}, b"content policy"
        return completion("4", "4", "4")

    with serve(reply) as server:
        result = summary(judge(server, ROWS))
    (line,) = result["refused"]
    assert "a.jsonl line 3" in line
    assert "content policy" in line
    assert [len(row["score"]) for row in read_rows(Path("judged.jsonl"))] == [3, 3, 0, 3, 3, 3]
    figures = summary(run("score", "voicebench", "commoneval", "judged.jsonl"))
    assert (figures["official"], figures["fallbacks"]) == (4.0, 1)
    assert figures["strict"] == pytest.approx((15 * 4 + 1) / 16)


def test_a_spent_budget_stops_the_run_and_the_next_run_goes_on() -> None:
    with serve(always("4", "4", "4")) as server:
        line = complaint(judge(server, ROWS, max_concurrency=1, budget_tokens=30).stderr)
        assert "the budget of 30 tokens a run is spent" in line
        assert len(server.bodies) == 3
        assert summary(judge(server, ROWS, max_concurrency=1, budget_tokens=30))["calls"] == 3


def test_a_judge_that_counts_no_tokens_spends_the_budget_by_what_is_written() -> None:
    uncounted = json.dumps({"choices": [{"message": {"content": "4"}}] * 3}).encode()
    with serve(lambda *_: (200, {}, uncounted)) as server:
        line = complaint(judge(server, ROWS, max_concurrency=1, budget_tokens=1000).stderr)
        assert "the budget of 1000 tokens a run is spent" in line
        num_asked = len(server.bodies)
        num_bytes = [sum(len(message["content"]) for message in body["messages"]) for body in server.bodies]
    assert 1 < num_asked < len(ROWS)
    assert sum(num_bytes[:-1]) < 3 * 1000 <= sum(num_bytes) + 3 * num_asked


def test_a_judge_that_refuses_every_row_is_named() -> None:
    with serve(lambda *_: (400, {}, b"max_tokens is not supported")) as server:
        line = complaint(judge(server, ROWS).stderr)
    assert "the judge refuses each of 6 questions, the first by" in line
    assert "HTTP 400 max_tokens is not supported; mend evaluate.judge" in line
    assert not Path("judged.jsonl").exists()


def test_both_passes_of_chat_are_judged_and_scored() -> None:
    def reply(number: int, body: dict[str, Any]) -> Reply:
        mine_first = body["messages"][0]["content"].index("mine") < body["messages"][0]["content"].index(
            "gold"
        )
        return completion("9 3" if mine_first else "2 8")

    rows = [{**CHAT_ROW, "uniq_id": i, "question": f"q{i}"} for i in range(20)]
    with serve(reply) as server:
        summary(judge(server, rows, benchmark="airbench"))
        summary(judge(server, rows, "--exchanged", benchmark="airbench"))
    assert {body["temperature"] for body in server.bodies} == {1.0, 2.0}
    assert {body["model"] for body in server.bodies} == {"gpt-4-0125-preview"}
    figures = summary(run("score", "airbench", "chat", "judged.jsonl", "--exchanged", "cir.jsonl"))
    assert (figures["official"], figures["n"]) == (8.5, 40)


def test_a_pass_under_the_other_ones_name_is_refused() -> None:
    write_rows(Path("a.jsonl"), [CHAT_ROW])
    params = str(write_params(Path("params.yaml"), {}))
    line = complaint(run("judge", "airbench", "a.jsonl", "b.jsonl", "--exchanged", "--params", params).stderr)
    assert "b.jsonl: its name must hold 'cir'" in line
