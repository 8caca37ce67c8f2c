"""Yes or no, (a) or (b), with the official quirks."""

import json
from pathlib import Path

import pytest

from azeros.evaluation.voicebench import bbh
from azeros.evaluation.voicebench.bbh_rules import EITHER, RULES
from tests.evaluation.rows import response

KINDS = {"in": "in", "eq": "equals", "sw": "starts", "ew": "ends", "re": "matches"}


@pytest.mark.parametrize(
    ("task", "text", "verdict"),
    [
        ("navigate", "**Answer:** is, yes", 1),
        ("navigate", "<2> No. <|user|>", 0),
        ("navigate", "Now we walk", 0),
        ("navigate", "We walk", None),
        ("web_of_lies", "The answer is: Jim lies", 0),
        ("web_of_lies", "He must be lying", 1),
        ("sports_understanding", "the sentence X is not plausible", 1),
        ("sports_understanding", "not plausible", 0),
        ("hyperbaton", "A", 0),
        ("hyperbaton", "B", 0),
        ("hyperbaton", "(A)", None),
        ("hyperbaton", "The answer is (B)", 1),
        ("hyperbaton", "the answer is awful", 0),
    ],
)
def test_the_first_rule_that_fits_decides(task: str, text: str, verdict: int | None) -> None:
    assert bbh.find_verdict(f"bbh_{task}_7", text) == verdict


@pytest.mark.parametrize(
    ("item_id", "reference", "error"),
    [("bbh_snarks_1", "Yes", "NotImplementedError"), ("bbh_navigate_1", "maybe", "KeyError")],
)
def test_an_item_on_which_the_official_script_raises_is_wrong_strictly(
    item_id: str, reference: str, error: str
) -> None:
    (item,) = bbh.score([response(id=item_id, reference=reference, response="yes")], seed=0)
    assert (item.fields, item.official, item.strict) == ({"error": error}, None, ((0.0, 1.0),))


def test_the_rules_are_the_official_ones(golden: Path) -> None:
    table = json.loads((golden / "benchmarks" / "tables" / "bbh_rules.json").read_text())
    names = {
        "sports_understanding": "sports",
        "hyperbaton": "hyperbaton",
        "navigate": "navigate",
        "web_of_lies": "lies",
    }
    for task, name in names.items():
        wanted: list[tuple[str, str, int]] = []
        for kind, text, verdict in table[name]:
            wanted += table["yn"] if kind == "yn" else [(kind, text, verdict)]
        ours = []
        for kind, text, verdict in RULES[task]:
            either = [(kind, text.replace("@", letter), which) for letter, which in (("a", 0), ("b", 1))]
            ours += either if verdict is EITHER else [(kind, text, verdict)]
        assert ours == [(KINDS[kind], text, verdict) for kind, text, verdict in wanted]
