"""The figures of the tiny world, where the pipeline has been run (`make run`): floors below three draws (docs/tiny-world.md), above chance."""

import json
from pathlib import Path
from typing import Any

import pytest

METRICS = Path(__file__).parents[1] / "reports" / "evaluate" / "metrics.json"


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    if not METRICS.is_file():
        pytest.skip("no reports/evaluate: run `make run` first")
    found: dict[str, Any] = json.loads(METRICS.read_text())
    return found


FLOORS = [
    ("text", "plain", 1.0),
    ("text", "choice_word", 0.8),
    ("stage1", "plain", 0.8),
    ("stage1", "topic", 0.92),
    ("stage1", "who", 0.9),
    ("stage2", "plain", 0.76),
    ("stage2", "gender", 0.83),
    ("stage2", "age", 0.75),
    ("stage2", "emotion", 0.73),
]


@pytest.mark.parametrize(("system", "ability", "floor"), FLOORS)
def test_floor(figures: dict[str, Any], system: str, ability: str, floor: float) -> None:
    assert figures[system][ability]["value"] >= floor


def test_untrained_projectors_hear_nothing(figures: dict[str, Any]) -> None:
    assert figures["untrained"]["plain"]["value"] < 0.05


@pytest.mark.parametrize("attribute", ["gender", "age", "emotion"])
def test_attributes_of_the_speaker_come_with_stage_2(figures: dict[str, Any], attribute: str) -> None:
    assert figures["stage1"][attribute]["value"] < 0.05


def test_repeating_was_learned_without_ever_being_trained_on_speech(figures: dict[str, Any]) -> None:
    assert figures["stage1"]["repeat_wer"]["value"] < 0.1 < figures["untrained"]["repeat_wer"]["value"]
