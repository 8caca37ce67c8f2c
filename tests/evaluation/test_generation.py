"""`azeros benchmark run` against a real server: killed, refused, resumed, asked again."""

import base64
import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import soundfile
from typer.testing import Result

from azeros import endpoint
from azeros.evaluation.score import score_file
from tests.evaluation.official import wav, write_voicebench
from tests.evaluation.rows import read_rows
from tests.openai_server import KEY, OpenAIServer, Reply, completion, serve
from tests.small import complaint, run, start, write_params

ROWS = [{"prompt": f"question {i}", "reference": "B"} for i in range(7)]
FILE = Path("out/served-openbookqa-test-audio.jsonl")
PARTIAL = FILE.with_suffix(".partial.jsonl")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYSTEM_KEY", KEY)
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_S", 0.01)
    write_voicebench(Path("data"), "openbookqa", "test", ROWS)


def command(server: OpenAIServer, output: str = "out", **update: Any) -> list[str]:
    settings = {
        "kind": "endpoint", "base_url": server.base_url, "api_key_variable": "SYSTEM_KEY", "model": "hearing",
        "modality": "audio", "system_message": "Help.", "temperature": 0.0, "max_new_tokens": 64,
        "choice_suffix": None, "max_concurrency": 2, "max_tries": 2, "timeout_s": 10.0,
    }  # fmt: skip
    params = write_params(
        Path("params.yaml"),
        {"benchmark.systems": {"served": settings | update}, "benchmark.asked": ["served"]},
    )
    paths = ["data", output, "--partial", "--params", str(params)]
    return ["benchmark", "run", "served", "voicebench", "openbookqa", *paths]


def ask(server: OpenAIServer, output: str = "out", **update: Any) -> Result:
    return run(*command(server, output, **update))


def samples_in(body: dict[str, Any]) -> int:
    """How many samples the recording in a request has."""
    (part,) = body["messages"][-1]["content"]
    assert (part["type"], part["input_audio"]["format"]) == ("input_audio", "wav")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(part["input_audio"]["data"])))
    assert rate == 16_000
    return len(samples)


def by_recording(_: int, body: dict[str, Any]) -> Reply:
    return completion(f"heard {samples_in(body)} samples")


def test_the_file_is_the_official_one_and_scores() -> None:
    with serve(by_recording) as server:
        assert ask(server).exit_code == 0
    wanted = [{**row, "response": f"heard {4800 + 1600 * i} samples"} for i, row in enumerate(ROWS)]
    assert FILE.read_text() == "".join(json.dumps(row) + "\n" for row in wanted)
    assert not PARTIAL.exists()
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("hearing", 0.0, 64)
    assert body["messages"][0] == {"role": "system", "content": "Help."}
    # Longest first, in batches of two that come in any order.
    assert {samples_in(b) for b in server.bodies[:2]} == {4800 + 1600 * 6, 4800 + 1600 * 5}
    assert score_file("voicebench", "openbookqa", FILE)["n"] == 7


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not() -> None:
    with serve(by_recording) as server:
        ask(server, "whole")
    blocked = threading.Event()

    def stuck_after_five(number: int, body: dict[str, Any]) -> Reply:
        if number >= 5:
            blocked.wait(60)
        return by_recording(number, body)

    with serve(stuck_after_five) as server:
        process = start(*command(server))
        deadline = time.monotonic() + 60
        while len(server.bodies) < 6:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()
        blocked.set()
    assert len(read_rows(PARTIAL)) == 4
    with PARTIAL.open("a") as file:
        file.write(json.dumps({**ROWS[2], "response": "of a batch that was cut"}) + '\n{"prompt": "ques')
    # The new server stands elsewhere, and says so nowhere in the responses.
    with serve(by_recording) as other:
        moved = json.loads(FILE.with_suffix(".run.json").read_text())
        moved["identity"]["base_url"] = other.base_url
        FILE.with_suffix(".run.json").write_text(json.dumps(moved))
        assert ask(other).exit_code == 0
    assert len(other.bodies) == 3
    assert FILE.read_bytes() == Path("whole", FILE.name).read_bytes()


def test_a_failing_item_is_recorded_and_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    broken = True

    def refuse_one(number: int, body: dict[str, Any]) -> Reply:
        if broken and samples_in(body) == 4800:
            return 400, {}, b"this recording is not for me"
        return by_recording(number, body)

    with serve(refuse_one) as server:
        assert ask(server).exit_code == 0
        assert "1 of 7 failed" in caplog.text
        assert "dvc repro with --force --single-item" in caplog.text
        first = read_rows(FILE)
        assert first[0]["response"] is None
        assert "HTTP 400 this recording is not for me" in first[0]["error"]
        assert all("error" not in row for row in first[1:])
        broken, asked = False, len(server.bodies)
        assert ask(server).exit_code == 0
        assert len(server.bodies) == asked + 1
        assert ask(server).exit_code == 0  # nothing is left to ask
        assert len(server.bodies) == asked + 1
    assert read_rows(FILE) == [{**ROWS[0], "response": "heard 4800 samples"}, *first[1:]]


def test_a_reply_without_text_is_one_item_s_failure() -> None:
    silent = {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}

    def silent_once(number: int, body: dict[str, Any]) -> Reply:
        if samples_in(body) == 4800:
            return 200, {}, json.dumps(silent).encode()
        return by_recording(number, body)

    with serve(silent_once) as server:
        assert ask(server).exit_code == 0
        assert len(server.bodies) == len(ROWS) + 1  # it is tried twice
    first, *others = read_rows(FILE)
    assert first["response"] is None
    assert "a reply without text (finish_reason content_filter)" in first["error"]
    assert all("error" not in row for row in others)


def test_what_was_answered_beside_a_failing_call_is_not_asked_for_again() -> None:
    def one_down(number: int, body: dict[str, Any]) -> Reply:
        return (503, {}, b"down") if samples_in(body) == 4800 + 1600 * 3 else by_recording(number, body)

    with serve(one_down) as server:
        result = ask(server)
        assert result.exit_code == 1
        assert "HTTP 503 down; what was done is kept" in complaint(result.stderr)
        assert [row["response"] is None for row in read_rows(PARTIAL)] == [False] * 3 + [True]
        asked = len(server.bodies)
        server.reply = by_recording
        assert ask(server).exit_code == 0
    assert sorted(map(samples_in, server.bodies[asked:])) == [4800, 6400, 8000, 9600]
    assert all("error" not in row for row in read_rows(FILE))


def test_what_is_asked_again_is_kept_when_the_endpoint_then_fails() -> None:
    with serve(lambda *_: (400, {}, b"not now")) as server:
        assert ask(server).exit_code == 0
        asked = len(server.bodies)

        def closed_after_four(number: int, body: dict[str, Any]) -> Reply:
            return by_recording(number, body) if number < asked + 4 else (403, {}, b"the account is closed")

        server.reply = closed_after_four
        assert ask(server).exit_code == 1
    assert sum("error" not in row for row in read_rows(FILE)) == 4


def test_a_recording_that_cannot_be_read_is_one_item_s_failure() -> None:
    write_voicebench(Path("data"), "openbookqa", "test", ROWS[:3], recordings=[wav(0.5), b"noise", wav(0.01)])
    with serve(by_recording) as server:
        assert ask(server).exit_code == 0
    errors = [row.get("error", "") for row in read_rows(FILE)]
    assert errors[0] == ""
    assert "row group 0, row 1: audio data: unreadable" in errors[1]
    assert "row group 1, row 0: audio data: too short" in errors[2]


def test_data_that_vanish_meanwhile_are_each_item_s_failure() -> None:
    (parquet,) = Path("data/openbookqa").glob("*.parquet")

    def vanish(number: int, body: dict[str, Any]) -> Reply:
        parquet.unlink(missing_ok=True)
        return by_recording(number, body)

    with serve(vanish) as server:
        assert ask(server).exit_code == 0
    rows = read_rows(FILE)
    assert [row["response"] is None for row in rows] == [True] * 5 + [False] * 2
    assert "row 0: cannot be read" in rows[0]["error"]


def test_an_endpoint_that_refuses_all_ends_the_run_and_keeps_what_was_answered() -> None:
    def closed_after_four(number: int, body: dict[str, Any]) -> Reply:
        return by_recording(number, body) if number < 4 else (403, {}, b"the account is closed")

    with serve(closed_after_four) as server:
        result = ask(server)
        assert result.exit_code == 1
        assert "HTTP 403 the account is closed; mend benchmark.systems.served or the key" in complaint(
            result.stderr
        )
        assert len(read_rows(PARTIAL)) == 4
        server.reply = by_recording
        assert ask(server).exit_code == 0
    assert len(read_rows(FILE)) == 7


def test_responses_of_other_settings_are_not_mixed() -> None:
    with serve(by_recording) as server:
        ask(server)
        before = FILE.read_bytes()
        result = ask(server, temperature=1.0)
    assert "begun with other settings or data (identity in served-openbookqa" in complaint(result.stderr)
    assert FILE.read_bytes() == before


def test_the_transcript_in_place_of_the_recording() -> None:
    with serve(lambda _, body: completion(body["messages"][-1]["content"])) as server:
        assert ask(server, modality="text", system_message=None).exit_code == 0
    rows = read_rows(Path("out/served-openbookqa-test-text.jsonl"))
    assert [row["response"] for row in rows] == [row["prompt"] for row in ROWS]


def test_an_unknown_system_is_named() -> None:
    result = run(
        "benchmark",
        "run",
        "nobody",
        "voicebench",
        "bbh",
        "d",
        "o",
        "--params",
        str(write_params(Path("p"), {})),
    )
    assert complaint(result.stderr).startswith(
        "azeros: no system 'nobody'; azeros benchmark systems lists them"
    )
