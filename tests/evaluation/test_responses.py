"""Response files as other harnesses leave them, whole or not."""

from pathlib import Path

import pytest

from azeros.errors import BenchmarkError
from azeros.evaluation.responses import count_repeats, read_responses
from tests.evaluation.rows import response

ROWS = [{"prompt": "p\u2028q", "response": "é"}, {"prompt": "r", "response": ""}]


def test_rows_come_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"prompt": "p\u2028q", "response": "é"}\n\n{"prompt": "r", "response": ""}')
    rows = read_responses(path)
    assert [row.fields for row in rows] == ROWS
    assert [row.line for row in rows] == [2, 4]


def test_one_json_list_will_do(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n{"prompt": "p\u2028q", "response": "é"}, {"prompt": "r", "response": ""}\n]')
    assert [row.fields for row in read_responses(path)] == ROWS


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "p"}\n', encoding="utf-8-sig")
    assert [row.fields for row in read_responses(path)] == [{"prompt": "p"}]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no rows"),
        ("\n \n", "no rows"),
        ('{"a": 1}\n{"a": "x', "line 2: not a JSON object .* remove the line and generate it again"),
        ('{"a": 1}\n[1]\n', r"line 2: \[1\] is not a JSON object"),
        ('[{"a": 1}, {"a', "line 1: not a JSON list"),
        ("[1]", "line 1: 1 is not a JSON object"),
        ('{"a": 1}\n{"a": 2}\n{"a": 1}\n{"a": 2}\n', "every row stands in it 2 times, first in line 1"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(BenchmarkError, match=f"a.jsonl: {problem}"):
        read_responses(path)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"none\.jsonl: No such file"):
        read_responses(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"{\xff}")
    with pytest.raises(BenchmarkError, match=r"b\.jsonl: not UTF-8 at byte 1"):
        read_responses(tmp_path / "b.jsonl")


def test_a_missing_or_wrong_field_is_named() -> None:
    row = response(prompt=None, score=["5", 4])
    with pytest.raises(
        BenchmarkError, match=r"responses.jsonl: line 1: no field 'response'; it has prompt, score"
    ):
        row.text("response")
    with pytest.raises(BenchmarkError, match="line 1: field 'prompt' is null, not a string"):
        row.text("prompt")
    with pytest.raises(BenchmarkError, match=r"line 1: field 'score' is .*, not a list of strings"):
        row.texts("score")


def test_rows_that_ask_the_same_again_are_counted() -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "a", "response": "1"},
        {"prompt": "a", "response": "2", "score": ["1"]},
        {"prompt": "b", "response": "1"},
        {"response": "1"},
        {"response": "2"},
    ]
    assert count_repeats(rows) == 1
