"""The letter in an answer, with the official quirks, and the official guesses."""

import json
import random
from pathlib import Path

import pytest

from azeros.evaluation.voicebench import mcq
from azeros.evaluation.voicebench.mcq_templates import TEMPLATES
from tests.evaluation.rows import response


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("c) because", "C"),
        ("<1> d", "D"),
        ("The correct answer is B.", "B"),
        ("答案是D", "D"),
        ("It is **C**, I think", "C"),
        ("the answer is actually D", "A"),
        ("the answer is carbon", "C"),
        ("It would be boiling", "B"),
        ("(d) but the answer is a", "A"),
        (" B", None),
        ("B\n", None),
        ("photosynthesis", None),
        ("", None),
    ],
)
def test_the_first_template_that_fits_decides(text: str, letter: str | None) -> None:
    assert mcq.find_letter(text) == letter


def test_guesses_follow_the_seed_in_the_order_of_the_rows() -> None:
    texts = ["?", "A", "?", "?", "b", "?"] * 20
    rows = [response(response=text, reference="B") for text in texts]
    random.seed(3)
    guesses = [random.choice(["A", "B", "C", "D"]) for text in texts if text == "?"]
    drawn = iter(guesses)
    wanted = [float(("B" if text == "b" else text if text == "A" else next(drawn)) == "B") for text in texts]
    items = mcq.score(rows, seed=3)
    assert [item.official and item.official[0][0] for item in items] == wanted
    assert [item.fallbacks for item in items] == [int(text == "?") for text in texts]
    assert sum(item.strict[0][0] for item in items) == 20


def test_the_templates_are_the_official_ones(golden: Path) -> None:
    table = json.loads((golden / "benchmarks" / "tables" / "mcq_templates.json").read_text())
    assert [template.replace("@", "[CHOICE]") for template in TEMPLATES] == table["ordered"]
