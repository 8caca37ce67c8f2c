"""Prompts, letters and accuracies of AIR-Bench Foundation."""

from pathlib import Path
from typing import Any

import pytest

from azeros.errors import BenchmarkError
from azeros.evaluation.airbench import foundation
from tests.evaluation.rows import read_rows, response

ITEM = {
    "path": "a.wav", "question": "Who?", "choice_a": "male", "choice_b": "female", "answer_gt": "female",
    "task_name": "Speaker_Gender_Recognition", "dataset_name": "meld", "uniq_id": 7,
}  # fmt: skip


def row(**fields: Any) -> Any:
    return response(**{**ITEM, "response": "B", **fields})


def test_prompts_paths_and_rows_equal_the_official_ones(golden: Path) -> None:
    for case in read_rows(golden / "benchmarks" / "airbench" / "foundation_prompts.jsonl"):
        item, expect = case["input"], case["expect"]
        assert foundation.instruction(item) == expect["instruction"]
        assert foundation.audio_path(item) == expect["audio_relpath"]
        ours = foundation.result_row(item, "A.")
        assert list(ours.items()) == list(expect["result_row_with_response_A_dot"].items())


def test_an_absent_choice_is_printed_as_none() -> None:
    assert foundation.instruction(ITEM).endswith("\nWho?\nA. male\nB. female\nC. None\nD. None")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), (" C. yes", "C"), ("(A)", "A"), ("The answer is A.", "A"), ("All of them", "A"), ("is \nD\n.", "D"),
        ("The answer is A", None), ("(A).", None), ("a", None), ("", None), ("None", None), ("None.", None),
    ],
)  # fmt: skip
def test_the_first_or_last_but_one_character_is_the_letter(text: str, letter: str | None) -> None:
    assert foundation.find_letter(text) == letter


def test_a_failure_leaves_the_official_denominator_and_not_the_strict_one() -> None:
    parsed, lost = foundation.score([row(), row(response="female")])
    assert parsed.fields == {"counted": True, "pred": "B", "gt": "B", "correct": True}
    assert (parsed.official or ())[0] == parsed.strict[0] == (1.0, 1.0)
    assert lost.fields == {"counted": False}
    assert ((lost.official or ())[0], lost.strict[0], lost.fallbacks) == ((0.0, 0.0), (0.0, 1.0), 1)


@pytest.mark.parametrize(
    ("fields", "crash"), [({"answer_gt": "robot"}, "SystemExit(1)"), ({"response": None}, "AttributeError")]
)
def test_a_row_on_which_the_official_script_dies_is_wrong_strictly(
    fields: dict[str, Any], crash: str
) -> None:
    (item,) = foundation.score([row(**fields)])
    assert (item.fields, item.official, item.error) == ({"counted": False, "crash": crash}, None, crash)
    assert item.strict[0] == (0.0, 1.0)


@pytest.mark.parametrize("field", ["response", "answer_gt", "task_name"])
def test_a_missing_field_is_named(field: str) -> None:
    fields = {name: value for name, value in row().fields.items() if name != field}
    with pytest.raises(BenchmarkError, match=f"line 1: no field '{field}'"):
        foundation.score([response(**fields)])


def test_a_row_without_a_task_and_one_of_another_task_count_in_no_column() -> None:
    items = foundation.score([row(task_name=None), row(task_name="Audio_Grounding")])
    assert [item.fields["counted"] for item in items] == [False, True]
    assert all(ratio == (0.0, 0.0) for item in items for ratio in (*item.strict, *(item.official or ())))


def test_the_official_script_ends_on_a_task_without_answers() -> None:
    rows = [row(), row(dataset_name="other", response="?")]
    assert foundation.official_result(rows, foundation.score(rows))["error"] == "KeyError"
    result = foundation.official_result(rows[:1], foundation.score(rows[:1]))
    assert result["tasks"] == {"Speaker_Gender_Recognition_meld": {"sum": 1, "correct": 1, "acc": 1.0}}
