"""Requests to AIR-Bench's judge, and what its marks mean in either pass."""

from pathlib import Path
from typing import Any

import pytest

from azeros.errors import BenchmarkError
from azeros.evaluation.airbench import chat
from tests.evaluation.rows import read_rows, response


def row(judgement: str, task: str = "speech_QA") -> Any:
    return response(**{"task_name": task, "gpt-score": judgement})


def test_judge_requests_equal_the_official_ones(golden: Path) -> None:
    for case in read_rows(golden / "benchmarks" / "airbench" / "chat_judge_requests.jsonl"):
        expect = case["expect"]
        request = chat.judge_request(response(**case["input"]), "gpt-4-0125-preview")
        assert request["messages"] == [{"role": "user", "content": expect["content"]}]
        assert request["temperature"] == expect["temperature_otherwise"]
        assert {name: request[name] for name in ("model", "max_tokens")} == {
            name: expect[name] for name in ("model", "max_tokens")
        }


def test_prompts_paths_and_rows_equal_the_official_ones(golden: Path) -> None:
    for case in read_rows(golden / "benchmarks" / "airbench" / "chat_inference.jsonl"):
        item, expect = case["input"], case["expect"]
        assert chat.audio_path(item) == expect["audio_relpath"]
        ours = chat.result_row(item, "A.")
        assert list(ours.items()) == list(expect["result_row_with_response_A_dot"].items())


def test_the_second_pass_has_the_answers_exchanged() -> None:
    fields = {"meta_info": "m", "question": "q", "answer_gt": "the reference", "response": "the answer"}
    content = chat.judge_request(response(**fields), "m", exchanged=True)["messages"][0]["content"]
    assert "Assistant 1s Answer]\nthe answer\n" in content
    assert "Assistant 2s Answer]\nthe reference\n" in content
    swapped = {**fields, "answer_gt": "the answer", "response": "the reference"}
    assert content == chat.judge_request(response(**swapped), "m")["messages"][0]["content"]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("8 7", (8, 7)), (" 4 10\n", (4, 10)), ("+8 07", (8, 7)), ("８ ７", (8, 7)), ("1_0 5", (10, 5)), ("0 -1", (0, -1)),
        ("8.5 7", None), ("8, 7", None), ("8  7", None), ("8\n7", None), ("8 7.", None), ("11 7", None), ("8", None),
        ("8 7 6", None), ("", None),
    ],
)  # fmt: skip
def test_marks_are_two_whole_numbers_up_to_ten(text: str, marks: tuple[int, int] | None) -> None:
    assert chat.parse_marks(text) == marks


@pytest.mark.parametrize(("which", "mark"), [("normal", 9.0), ("cir", 3.0)])
def test_the_model_is_second_and_first_where_exchanged(which: str, mark: float) -> None:
    won, lost, other = chat.score([row("3 9"), row("3, 9"), row("3 9", "music_QA")], which)
    assert won.fields["normal"]["win"] is True
    assert won.fields["cir"]["win"] is False
    assert (won.official, won.strict) == (((mark, 1.0),), ((mark, 1.0),))
    assert lost.fields["normal"] == {"counted": False, "in_success_num": True}
    assert (lost.official, lost.strict, lost.fallbacks) == (((0.0, 0.0),), ((1.0, 1.0),), 1)
    assert (other.official, other.strict) == (((0.0, 0.0),), ((0.0, 0.0),))


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(BenchmarkError, match="line 1: unknown task_name 'song_QA'; known are speech_QA"):
        chat.score([row("3 9", "song_QA")], "normal")


def test_a_pass_goes_by_the_name_of_its_file() -> None:
    assert chat.pass_of("result_cir.json") == "cir"
    assert chat.pass_of("result.json") == "normal"
    for system in ("circus", "normalised", "cir.normal"):
        for which in chat.PASSES:
            assert chat.pass_of(f"{system}-chat-speech-audio.{which}.jsonl") == which
