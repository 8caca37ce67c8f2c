"""The figures of the tiny world, where the pipeline has been run (`make run`): floors below what was measured, above chance."""

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
    ("text", "choice", 0.9),
    ("stage1", "plain", 0.7),
    ("stage1", "topic", 0.9),
    ("stage1", "who", 0.8),
]


@pytest.mark.parametrize(("system", "ability", "floor"), FLOORS)
def test_floor(figures: dict[str, Any], system: str, ability: str, floor: float) -> None:
    assert figures[system][ability]["value"] >= floor


def test_untrained_projectors_hear_nothing(figures: dict[str, Any]) -> None:
    assert figures["untrained"]["plain"]["value"] < 0.05
