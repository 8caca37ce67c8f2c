"""`azeros score` against the golden items and aggregates of the official scripts, and on files of our own."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.rows import read_rows, write_rows
from tests.small import complaint, run

GOLDEN = [
    ("voicebench", "advbench", "harm"),
    ("voicebench", "openbookqa", "mcq"),
    ("voicebench", "mmsu", "mcq"),
    ("voicebench", "bbh", "bbh"),
    ("voicebench", "bbh", "bbh_errors"),
    ("voicebench", "alpacaeval_full", "open_judge"),
    ("voicebench", "wildvoice", "open_judge_malformed"),
    ("voicebench", "sd-qa", "qa"),
    ("voicebench", "sd-qa", "qa_vote_ties"),
    ("voicebench", "ifeval", "ifeval"),
    ("voicebench", "ifeval", "ifeval_errors"),
    ("airbench", "foundation", "foundation"),
    ("airbench", "foundation", "foundation_crashes"),
    ("airbench", "chat", "chat_scores"),
]


def score(*arguments: object) -> dict[str, Any]:
    result = run("score", *map(str, arguments))
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def same(wanted: object, found: object) -> bool:
    """Equal, floats to 1e-9."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(same(wanted[key], found[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(same, wanted, found))
    if isinstance(wanted, float) and isinstance(found, float):
        return math.isclose(wanted, found, rel_tol=0, abs_tol=1e-9)
    return type(wanted) is type(found) and wanted == found


@pytest.mark.parametrize(("benchmark", "subset", "name"), GOLDEN)
def test_items_equal_the_official_ones(
    golden: Path, tmp_path: Path, benchmark: str, subset: str, name: str
) -> None:
    folder = golden / "benchmarks"
    cases = read_rows(folder / benchmark / f"{name}.jsonl")
    responses = write_rows(tmp_path / "responses.jsonl", [case["input"] for case in cases])
    weights = ["--panda-weights", folder / "tables"] if name == "qa" else []
    score(benchmark, subset, responses, "--items", tmp_path / "items.jsonl", *weights)
    for case, found in zip(cases, read_rows(tmp_path / "items.jsonl"), strict=True):
        assert same(case["expect"].get("item", case["expect"]), found), case


@pytest.fixture
def aggregates(golden: Path) -> dict[str, Any]:
    return dict(json.loads((golden / "benchmarks" / "AGGREGATES.json").read_text()))


def golden_inputs(golden: Path, name: str) -> list[Any]:
    return [case["input"] for case in read_rows(golden / "benchmarks" / f"{name}.jsonl")]


@pytest.mark.parametrize(
    ("name", "subset", "key"),
    [
        ("harm", "advbench", "official"),
        ("mcq", "openbookqa", "official_with_random.seed(0)"),
        ("bbh", "bbh", "official_with_random.seed(0)"),
        ("open_judge", "commoneval", "official_over_all_items"),
        ("ifeval", "ifeval", "official"),
    ],
)
def test_figures_equal_those_of_the_official_script(
    golden: Path, tmp_path: Path, aggregates: dict[str, Any], name: str, subset: str, key: str
) -> None:
    rows = golden_inputs(golden, f"voicebench/{name}")
    figures = score("voicebench", subset, write_rows(tmp_path / "a.jsonl", rows))
    assert same(aggregates[name][key], figures["official_result"])
    if name in ("mcq", "bbh"):
        assert same(aggregates[name]["acc_without_fallback_hits"], figures["strict"])
        assert same(aggregates[name]["acc_expected"], figures["expected"])
        assert figures["fallbacks"] == aggregates[name]["fallbacks"]
    else:
        assert figures["official"] == pytest.approx(figures["expected"])


def test_sd_qa_equals_the_official_script_where_no_vote_ties(
    golden: Path, tmp_path: Path, aggregates: dict[str, Any]
) -> None:
    cases = read_rows(golden / "benchmarks" / "voicebench" / "qa.jsonl")
    rows = [case["input"] for case in cases if not case["expect"]["tie"]]
    weights = ("--panda-weights", golden / "benchmarks" / "tables")
    figures = score("voicebench", "sd-qa", write_rows(tmp_path / "a.jsonl", rows), *weights)
    official = aggregates["qa"]["official_over_items_without_vote_ties"]
    assert same(official, {name: figures["official_result"][name] for name in ("panda", "gpt")})
    assert same(aggregates["qa"]["sd_qa_column_over_items_without_vote_ties"], figures["official"])
    every = score("voicebench", "sd-qa", write_rows(tmp_path / "b.jsonl", [case["input"] for case in cases]))
    low, high = aggregates["qa"]["gpt_over_all_items_possible_range"]
    assert low == pytest.approx(every["parts"]["gpt"]["strict"])
    assert low < every["parts"]["gpt"]["official"] < high
    both = score("voicebench", "sd-qa", tmp_path / "b.jsonl", *weights)
    fallbacks = {name: part["fallbacks"] for name, part in both["parts"].items()}
    assert fallbacks == {"panda": 0, "gpt": aggregates["qa"]["ties"]}


def test_ifeval_serves_a_doubled_prompt_with_the_last_response(
    tmp_path: Path, aggregates: dict[str, Any]
) -> None:
    case = aggregates["ifeval"]["duplicate_prompt_case"]
    figures = score("voicebench", "ifeval", write_rows(tmp_path / "a.jsonl", case["items"]))
    assert same(case["official"], figures["official_result"])


def test_foundation_equals_the_official_script(
    golden: Path, tmp_path: Path, aggregates: dict[str, Any]
) -> None:
    rows, official = golden_inputs(golden, "airbench/foundation"), aggregates["airbench_foundation"]
    figures = score("airbench", "foundation", write_rows(tmp_path / "a.jsonl", rows))
    assert same(official["official"], figures["official_result"])
    assert same(official["derived_avg6"], figures["official"])
    columns = {name.capitalize() if name != "lid" else "LID": part for name, part in figures["parts"].items()}
    wanted = official["derived_columns_pooled_by_task_name"]
    assert same(wanted, {name: part["official"] for name, part in columns.items()})
    assert sum(part["fallbacks"] for part in columns.values()) == official["official"]["fail_num"]


@pytest.mark.parametrize("case", range(6))
def test_the_official_script_ends_where_ours_says_so(golden: Path, tmp_path: Path, case: int) -> None:
    crash = read_rows(golden / "benchmarks" / "airbench" / "foundation_crashes.jsonl")[case]
    figures = score("airbench", "foundation", write_rows(tmp_path / "a.jsonl", [crash["input"]]))
    wanted = crash["expect"]["file_alone"]
    if "crash" in crash["expect"]["item"]:
        assert wanted["error"] in figures["official_absent"]
    else:
        assert same(wanted, figures["official_result"])


@pytest.mark.parametrize(
    ("file", "key"), [("a.jsonl", "official_normal_file"), ("a_cir.jsonl", "official_cir_file")]
)
def test_one_pass_of_chat_equals_the_official_script(
    golden: Path, tmp_path: Path, aggregates: dict[str, Any], file: str, key: str
) -> None:
    rows, official = golden_inputs(golden, "airbench/chat_scores"), aggregates["airbench_chat"][key]
    figures = score("airbench", "chat", write_rows(tmp_path / file, rows))
    assert same(official["categories"], figures["official_result"]["categories"])
    assert figures["official_result"]["fail_num"] == official["fail_num"]


def test_both_passes_of_chat_make_the_final_score(tmp_path: Path, aggregates: dict[str, Any]) -> None:
    case = aggregates["airbench_chat"]["two_pass"]
    normal = write_rows(tmp_path / "a.jsonl", case["normal_items"])
    exchanged = write_rows(tmp_path / "b.jsonl", case["swapped_items"])
    figures = score("airbench", "chat", normal, "--exchanged", exchanged, "--items", tmp_path / "items.jsonl")
    assert same(case["derived_chat_speech"], figures["official"])
    for which, key in (("normal", "official_normal"), ("cir", "official_cir")):
        assert same(case[key]["categories"], figures["official_result"][which]["categories"])
    assert len(read_rows(tmp_path / "items.jsonl")) == len(case["normal_items"])


OBQA = [
    {"prompt": "1", "reference": "A", "response": "A"},
    {"prompt": "2", "reference": "A", "response": "The answer is B."},
    {"prompt": "3", "reference": "A", "response": "hm"},
    {"prompt": "4", "reference": "C", "response": "c."},
]


def test_a_summary_says_how_much_is_luck(tmp_path: Path) -> None:
    figures = score("voicebench", "openbookqa", write_rows(tmp_path / "a.jsonl", OBQA))
    assert (figures["n"], figures["num_rows_of_set"], figures["repeated"]) == (4, 455, 0)
    assert (figures["fallbacks"], figures["fallback_share"]) == (1, 0.25)
    assert (figures["strict"], figures["expected"]) == (50.0, 56.25)
    assert figures["official"] in (50.0, 75.0)
    low, high = figures["strict_interval"]
    assert 0 <= low < 50 < high <= 100


def test_without_weights_or_judge_their_half_is_absent_and_not_zero(tmp_path: Path) -> None:
    rows = [{"prompt": str(i), "reference": "x", "response": "y", "score": ["yes"] * 3} for i in range(4)]
    judged = score("voicebench", "sd-qa", write_rows(tmp_path / "a.jsonl", rows))
    assert (judged["official"], judged["parts"]["gpt"]["official"]) == (None, 100.0)
    assert "azeros panda-weights" in judged["official_absent"]
    bare = [{name: value for name, value in row.items() if name != "score"} for row in rows]
    result = run("score", "voicebench", "sd-qa", str(write_rows(tmp_path / "b.jsonl", bare)))
    assert "nothing to score by" in complaint(result.stderr)


def test_a_row_on_which_the_official_script_raises_takes_only_the_official_figure(tmp_path: Path) -> None:
    rows = [{"prompt": "1", "response": "r", "score": marks} for marks in (["5", "5"], ["5", "good"])]
    figures = score("voicebench", "wildvoice", write_rows(tmp_path / "a.jsonl", rows))
    assert (figures["official"], figures["interval"], figures["strict"]) == (None, None, 4.0)
    assert "raises NotImplementedError" in figures["official_absent"]
    assert "a.jsonl line 2" in figures["official_absent"]


def test_a_part_without_answers_is_named_and_the_others_have_their_figures(tmp_path: Path) -> None:
    row = {"choice_a": "x", "choice_b": "y", "answer_gt": "x", "response": "A.", "dataset_name": "d"}
    columns = {"gender": "Speaker_Gender_Recognition", "age": "Speaker_Age_Prediction"}
    rows = [{**row, "task_name": task, "uniq_id": task} for task in columns.values()]
    figures = score("airbench", "foundation", write_rows(tmp_path / "a.jsonl", rows))
    assert (figures["official"], figures["interval"]) == (None, None)
    assert figures["official_absent"] == "nothing finite to count for emotion, lid, entity, intent"
    found = {name: part["official"] for name, part in figures["parts"].items()}
    assert found == dict.fromkeys(figures["parts"]) | dict.fromkeys(columns, 100.0)


@pytest.mark.parametrize(
    ("subset", "row", "good"),
    [
        ("advbench", {"prompt": "p"}, "Sorry."),
        ("openbookqa", {"reference": "B"}, "The answer is B."),
        ("bbh", {"id": "bbh_navigate_1", "reference": "Yes"}, "Yes"),
        (
            "ifeval",
            {"prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
            "a",
        ),
    ],
)
def test_a_system_that_failed_on_a_row_is_strictly_wrong_there(
    tmp_path: Path, subset: str, row: dict[str, Any], good: str
) -> None:
    rows = [{**row, "response": good}, {**row, "prompt": "q", "response": None, "error": "too long"}]
    figures = score("voicebench", subset, write_rows(tmp_path / "a.jsonl", rows))
    assert (figures["unanswered"], figures["strict"], figures["official"]) == (1, 50.0, None)
    assert "raises AttributeError on" in figures["official_absent"]
    assert "line 2, and on 1 rows in all" in figures["official_absent"]


@pytest.mark.parametrize(
    ("arguments", "content", "problem"),
    [
        ("voicebench mmlu", "{}", "voicebench has no set 'mmlu'; it has alpacaeval, "),
        ("airbench music", "{}", "airbench has no set 'music'; it has foundation, chat"),
        ("voicebench advbench", '{"prompt": "p"}', "line 1: no field 'response'; it has prompt"),
        ("voicebench advbench", '{"response": 3}', "line 1: field 'response' is 3, not a string"),
        ("voicebench advbench", '{"response": "a"}\n{"respon', "line 2: not a JSON object"),
        ("voicebench commoneval", '{"response": "a"}', "line 1: no field 'score'"),
        ("voicebench ifeval", '{"prompt": "p", "response": "a"}', "line 1: no field 'instruction_id_list'"),
        ("voicebench sd-qa", '{"score": ["yes"]}\n{"response": "a"}', "line 2: no field 'score'"),
        ("airbench chat", '{"task_name": "speech_QA"}', "line 1: no field 'gpt-score'"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path: Path, arguments: str, content: str, problem: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    result = run("score", *arguments.split(), str(path))
    assert result.exit_code == 1
    assert problem in complaint(result.stderr)
