"""The tables recompute from their own columns, and are the ones that were published."""

import json
from pathlib import Path

import pytest

from azeros.evaluation.published import airbench_average, load_published, voicebench_overall

ROWS = load_published()


def test_every_overall_comes_out_of_its_columns() -> None:
    rows = [row for row in ROWS if row.benchmark == "voicebench"]
    assert len(rows) == 33 + 13 + 10
    for row in rows:
        assert voicebench_overall(row.columns) == row.columns["overall"], row


def test_every_average_comes_out_of_its_columns() -> None:
    rows = [row for row in ROWS if row.benchmark == "airbench"]
    assert len(rows) == 18
    assert sum(row.columns["avg"] is not None for row in rows) == 17
    for row in rows:
        assert airbench_average(row.columns) == row.columns["avg"], row


def test_totals_are_rounded_half_up() -> None:
    assert (
        airbench_average(dict.fromkeys(("gender", "emotion", "age", "lid", "entity", "intent"), 0.125))
        == 0.13
    )
    judged = dict.fromkeys(("alpacaeval", "commoneval", "wildvoice"), 5)
    others = dict.fromkeys(("sdqa", "bbh", "advbench", "ifeval", "obqa", "mmsu"), 100)
    assert voicebench_overall({**judged, **others}) == 100
    assert voicebench_overall(judged) is None


def test_the_figures_are_the_published_ones(golden: Path) -> None:
    table = json.loads((golden / "benchmarks" / "tables" / "published_rows.json").read_text())
    for benchmark, keys in (("voicebench", ("leaderboard", "seed_and_paper")), ("airbench", ("airbench",))):
        wanted = [{name.lower(): value for name, value in row.items()} for key in keys for row in table[key]]
        ours = [{"model": row.system, **row.columns} for row in ROWS if row.benchmark == benchmark]
        assert ours == wanted


@pytest.mark.parametrize("source", ["leaderboard", "azeros", "ablations"])
def test_a_source_names_each_system_once(source: str) -> None:
    names = [(row.benchmark, row.system) for row in ROWS if row.source == source]
    assert len(names) == len(set(names)) > 0
