"""The order of training rows."""

from itertools import islice
from pathlib import Path

from lhotse import MonoCut, SupervisionSegment

from azeros.params import load_params
from azeros.training.rows import Row, batches

STAGE = load_params(Path(__file__).parents[2] / "params.yaml").train.stage2


def rows(name: str, num: int, duration_s: float) -> list[Row]:
    said = SupervisionSegment("s", "s", 0.0, duration_s, text="a")
    return [
        Row(MonoCut(f"{name}{i}", 0.0, duration_s, channel=0, supervisions=[said]), "", "b")
        for i in range(num)
    ]


SETS = {"tiny_s": rows("s", 50, 2.0), "tiny_sit": rows("p", 50, 1.0)}


def test_the_same_seed_gives_the_same_batches_and_a_resumed_run_can_skip() -> None:
    first = [[row.key for row in batch] for batch in islice(batches(SETS, STAGE, 3), 40)]
    again = [[row.key for row in batch] for batch in islice(batches(SETS, STAGE, 3), 25, 40)]
    assert first[25:] == again
    assert first != [[row.key for row in batch] for batch in islice(batches(SETS, STAGE, 4), 40)]


def test_sets_are_mixed_by_hours_times_weight() -> None:
    drawn = [row.key[0] for batch in islice(batches(SETS, STAGE, 0), 160) for row in batch]
    wanted = 2.0 * STAGE.sets["tiny_s"] / (2.0 * STAGE.sets["tiny_s"] + 1.0 * STAGE.sets["tiny_sit"])
    assert abs(drawn.count("s") / len(drawn) - wanted) < 0.03


def test_a_set_is_gone_through_before_it_repeats() -> None:
    drawn = [row.key for batch in islice(batches({"tiny_s": SETS["tiny_s"]}, STAGE, 0), 16) for row in batch]
    counts = {drawn.count(row.key) for row in SETS["tiny_s"]}
    assert max(counts) - min(counts) <= 1
