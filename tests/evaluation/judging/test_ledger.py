"""A ledger that survives kills, and notices changes."""

import json
import logging
from pathlib import Path

import pytest

from azeros.errors import BenchmarkError
from azeros.evaluation.judging.ledger import Judgement, Ledger, key_of, open_ledger

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "é\u2028?"}], "temperature": 0.5}


def judgement(sample: int = 0, answer: str = "5") -> Judgement:
    return Judgement(REQUEST, sample, 0, answer, "m-2025", 12)


def test_judgements_survive_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    with open_ledger(path) as ledger:
        ledger.add(judgement())
        ledger.add(judgement(1, "line\n2"))
    with open_ledger(path) as ledger:
        assert len(ledger) == 2
        assert ledger.find(dict(reversed(REQUEST.items())), 1, 0) == judgement(1, "line\n2")
        assert ledger.find(REQUEST, 0, 1) is None
        assert ledger.find({**REQUEST, "temperature": 1.0}, 0, 0) is None


def test_a_line_cut_short_by_a_kill_is_asked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_ledger(path) as ledger:
        ledger.add(judgement())
        ledger.add(judgement(1))
    path.write_bytes(path.read_bytes()[:-9])
    with caplog.at_level(logging.WARNING), open_ledger(path) as ledger:
        assert len(ledger) == 1
        ledger.add(judgement(1))
    assert "cut short" in caplog.text
    assert len(Ledger(path)) == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"answer": "1"}, "was changed after it was written"), ({"extra": 1}, "not a judgement"), (None, "not a j")],
)  # fmt: skip
def test_a_changed_line_is_named(tmp_path: Path, change: dict[str, object] | None, problem: str) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.add(judgement())
    ledger.add(judgement(1))
    first, second, _ = path.read_text().split("\n")
    bad = json.dumps({**json.loads(second), **change}) + "\n" if change else "[]\n"
    path.write_text(f"{first}\n{bad}")
    with pytest.raises(BenchmarkError, match=f"ledger.jsonl: line 2: {problem}"), open_ledger(path):
        pass


def test_two_runs_do_not_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with (
        open_ledger(path),
        pytest.raises(BenchmarkError, match="another run is using it"),
        open_ledger(path),
    ):
        pass


def test_a_key_tells_request_sample_and_attempt_apart() -> None:
    keys = {
        key_of(REQUEST, 0, 0),
        key_of(REQUEST, 1, 0),
        key_of(REQUEST, 0, 1),
        key_of({**REQUEST, "model": "n"}, 0, 0),
    }
    assert len(keys) == 4
