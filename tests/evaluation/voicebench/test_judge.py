"""Requests to the judge, byte for byte, and what its answers mean."""

import math
from pathlib import Path

import pytest

from azeros.errors import BenchmarkError
from azeros.evaluation.tally import figure
from azeros.evaluation.voicebench import judge, open_ended
from tests.evaluation.rows import read_rows, response


def test_requests_and_rows_equal_the_official_ones(golden: Path) -> None:
    for case in read_rows(golden / "benchmarks" / "voicebench" / "judge_requests.jsonl"):
        row, expect = response(**case["input"]), case["expect"]
        if "error" in expect:
            with pytest.raises(BenchmarkError, match="field 'reference' is null"):
                judge.request(row, "m")
            continue
        assert judge.request(row, "gpt-4o-mini") == expect["request"]
        assert (
            judge.judged(row, [f" {mark}\n" for mark in expect["result_row"]["score"]])
            == expect["result_row"]
        )
        assert list(judge.judged(row, [])) == list(expect["result_row"])


def test_a_placeholder_in_a_prompt_is_replaced_too() -> None:
    content = judge.request(
        response(prompt="{reference} {response}", reference="R", response="{prompt}"), "m"
    )
    assert "### Question\nR {prompt}\n" in content["messages"][1]["content"]


@pytest.mark.parametrize(
    ("text", "mark"), [(" 5", 5), ("1e0", 1), ("1_0", 10), ("5.", 5), ("５", 5), ("x [[3]] [[4]]", 3)]
)
def test_a_mark_is_what_float_reads_or_stands_in_brackets(text: str, mark: float) -> None:
    assert judge.parse_mark(text) == mark


@pytest.mark.parametrize(
    "text", ["", "Score: 4", "4/5", "**5**", "4 5", "[4]", "[[4.5]]", f"[[{'9' * 400}]]", f"[[{'9' * 5000}]]"]
)
def test_anything_else_is_no_mark(text: str) -> None:
    assert judge.parse_mark(text) is None


@pytest.mark.parametrize("lost", [["inf", "-inf"], ["1e308", "1e308"]])
def test_marks_without_a_sum_have_no_figure_and_strictly_are_the_lowest(lost: list[str]) -> None:
    (item,) = open_ended.score([response(score=[*lost, "4"])])
    assert (item.strict, item.fallbacks) == (((6.0, 3.0),), 2)
    assert item.official is not None
    assert figure([item.official], 1.0, seed=0).value is None


def test_every_mark_weighs_the_same_and_strictly_a_lost_one_is_the_lowest() -> None:
    marks = [["5", "4"], ["3"], ["4", "good"], ["0", "nan", "5"]]
    items = open_ended.score([response(score=strings) for strings in marks])
    assert items[0].fields == {"scores": [5.0, 4.0], "mean": 4.5}
    assert items[2].fields == {"error": "NotImplementedError"}
    assert items[2].official is None
    assert [item.strict for item in items] == [((9.0, 2.0),), ((3.0, 1.0),), ((5.0, 2.0),), ((7.0, 3.0),)]
    assert [item.fallbacks for item in items] == [0, 0, 1, 2]
    assert items[3].official is not None
    assert math.isnan(items[3].official[0][0])
