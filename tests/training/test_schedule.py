"""Eden2 against the values of the original."""

import json
from pathlib import Path

import pytest

from azeros.params import Schedule
from azeros.training.schedule import learning_rate

PAPER = Schedule(base_lr=1e-3, eden_steps=7500, warmup_steps=500, decay_share=0.0)


def test_equals_the_original(golden: Path) -> None:
    series = json.loads((golden / "trainer" / "lr.json").read_text())["azeros_default"]["series"]
    rates = {int(step): rate for part in series for step, rate in part["lr"].items()}
    assert len(rates) > 5
    for step, expected in rates.items():
        assert learning_rate(step, 10**9, PAPER) == pytest.approx(expected, rel=1e-9)


def test_the_line_at_the_end_reaches_zero() -> None:
    schedule = PAPER.model_copy(update={"decay_share": 0.5})
    assert learning_rate(100, 100, schedule) == pytest.approx(learning_rate(100, 10**7, PAPER) / 50)
    assert learning_rate(50, 100, schedule) == pytest.approx(learning_rate(50, 10**7, PAPER), rel=0.05)
