"""The vote, its ties, and the mean with PANDA."""

import pytest

from azeros.evaluation.voicebench import qa
from tests.evaluation.rows import response
from tests.evaluation.voicebench.test_panda import small


@pytest.mark.parametrize(
    ("judgements", "leaders"),
    [
        (["Yes", "yes", "no"], ["yes"]),
        (["Yes.", "yes", "Yes."], ["yes."]),
        (["Yes", "No"], ["no", "yes"]),
        (["yes", "no", "maybe"], ["maybe", "no", "yes"]),
        ([], []),
    ],
)
def test_leaders_are_the_most_frequent(judgements: list[str], leaders: list[str]) -> None:
    assert qa.leaders(judgements) == leaders


def test_a_tie_is_drawn_officially_and_lost_strictly() -> None:
    rows = [response(score=["Yes", "No", "Maybe"]) for _ in range(3000)]
    items = qa.score(rows, 0, None, judged=True)
    assert items[0].fields == {"gpt": None, "tie": True}
    won = sum(item.official[0][0] for item in items if item.official)
    assert won / len(items) == pytest.approx(1 / 3, abs=0.03)
    assert sum(item.strict[0][0] for item in items) == 0
    assert items[0].expected == ((1 / 3, 1.0),)


def test_both_halves_stand_side_by_side() -> None:
    row = response(prompt="What?", reference="Paris", response="PARIS", score=["No", "no", "yes"])
    (item,) = qa.score([row], 0, small(), judged=True)
    assert item.fields == {"panda": True, "margin": None, "gpt": False, "tie": False}
    assert item.official == item.strict == ((1.0, 1.0), (0.0, 1.0))
    (alone,) = qa.score([row], 0, small(), judged=False)
    assert alone.fields == {"panda": True, "margin": None}


def test_a_row_without_judgements_stops_the_official_script() -> None:
    (item,) = qa.score([response(score=[])], 0, None, judged=True)
    assert (item.error, item.official, item.strict) == ("ValueError", None, ((0.0, 1.0),))
