"""What training rows teach, and their order."""

from itertools import islice
from pathlib import Path

import pytest
from lhotse import MonoCut, SupervisionSegment

from azeros.data.manifests import write_cuts
from azeros.errors import ManifestError
from azeros.model.foundation import load_tokenizer
from azeros.model.processing import IGNORED, AzerosProcessor
from azeros.params import load_params
from azeros.sift.profile import read_profile
from azeros.training.loop import messages_of
from azeros.training.rows import Row, Rows, batches, distinct, read_rows, with_tagged
from tests.conftest import ROOT
from tests.small import make_cut

LLM = ROOT / "azeros/tiny/weights/llm"
PARAMS = load_params(ROOT / "params.yaml")
STAGE = PARAMS.train.stage2


@pytest.fixture(autouse=True)
def work(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what was read is kept."""
    monkeypatch.setattr("azeros.work.WORK_ROOT", tmp_path_factory.mktemp("work"))


def rows(name: str, num: int, duration_s: float) -> Rows:
    said = SupervisionSegment("s", "s", 0.0, duration_s, text="a")
    return Rows.of(
        Row.of(MonoCut(f"{name}{i}", 0.0, duration_s, channel=0, supervisions=[said]), "", "b")
        for i in range(num)
    )


def test_the_false_end_of_a_cut_off_answer_is_not_learned(tmp_path: Path) -> None:
    processor = AzerosProcessor(load_tokenizer(LLM))
    responses = {"whole": "the sky", "cut": "the sky<|truncated|>"}
    cuts = [
        MonoCut(name, 0.0, 1.0, channel=0, supervisions=[
            SupervisionSegment(name, name, 0.0, 1.0, text="a", custom={"response": text, "instruction": ""})
        ])
        for name, text in responses.items()
    ]  # fmt: skip
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    learned = {}
    for row in read_rows(tmp_path, PARAMS.filter)[0]:
        conversation = processor.encode_training(messages_of(row, "<|AUDIO|>"))
        labels = processor.training_row(conversation, [3]).labels
        learned[row.key] = processor.tokenizer.decode([token for token in labels if token != IGNORED])
    assert learned == {"whole": "the sky<|im_end|>\n", "cut": "the sky"}


def write_target(folder: Path, provenance: dict[str, str]) -> None:
    custom = {"response": "yes", "from_model": "org/other", "provenance": provenance}
    said = SupervisionSegment("c", "c", 0.0, 1.0, text="a", custom=custom)
    write_cuts([MonoCut("c7", 0.0, 1.0, channel=0, supervisions=[said])], folder / "cuts.jsonl.gz")


@pytest.mark.parametrize("changed", ["llm_revision", "template"])
def test_targets_of_another_author_are_refused_unless_allowed(tmp_path: Path, changed: str) -> None:
    author = read_profile(PARAMS.foundation.llm).author(PARAMS.sift)
    write_target(tmp_path, {**author, "mode": "sift_s"})
    assert len(read_rows(tmp_path, PARAMS.filter, author)[0]) == 1
    write_target(tmp_path, author | {changed: "another"})
    with pytest.raises(ManifestError, match=r"cut c7: org/other wrote .*train.foreign_targets"):
        read_rows(tmp_path, PARAMS.filter, author)
    assert len(read_rows(tmp_path, PARAMS.filter)[0]) == 1


def test_rows_are_read_once_and_are_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [make_cut(f"c{index}", "你好" * index, 1.0 + index) for index in range(1, 31)]
    for cut in cuts:
        cut.supervisions[0].custom = {"response": f"yes, {cut.id}", "instruction": "say it"}
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    monkeypatch.setattr("azeros.training.rows._CHUNK_ROWS", 7)
    first, rejected = read_rows(tmp_path, PARAMS.filter)
    monkeypatch.setattr("azeros.training.rows.read_cuts", None)
    again, same = read_rows(tmp_path, PARAMS.filter)
    wanted = [Row.of(cut, "say it", f"yes, {cut.id}") for cut in cuts if cut.duration <= 30]
    assert list(first) == list(again) == [again[index] for index in range(len(again))] == wanted
    assert rejected == same == {"longer than filter.max_duration_s": 1}
    assert again[5:19] == wanted[5:19]
    assert again[::4] == wanted[::4]
    assert again[-1].cut == cuts[28].drop_supervisions()
    assert list(again.without({"c3"})) == [row for row in wanted if row.key != "c3"]
    assert all(row.tagged for row in again.in_tags())
    assert distinct([again, again.in_tags()]) == (29, sum(row.duration_s for row in wanted))


SETS = {"tiny_s": rows("s", 50, 2.0), "tiny_sit": rows("p", 50, 1.0)}
BY_DURATION = {name: [int(row.duration_s) for row in rows] for name, rows in SETS.items()}


def keys(seed: int, start: int, stop: int) -> list[list[str]]:
    stream = batches(SETS, STAGE.sets, STAGE.batch_size, seed, BY_DURATION, start=start)
    return [[row.key for row in batch] for batch in islice(stream, stop - start)]


def test_the_same_seed_gives_the_same_batches_and_a_resumed_run_can_skip() -> None:
    assert keys(3, 0, 40)[25:] == keys(3, 25, 40)
    assert keys(3, 0, 40) != keys(4, 0, 40)


def test_sets_are_mixed_by_hours_times_weight() -> None:
    stream = batches(SETS, STAGE.sets, STAGE.batch_size, 0, BY_DURATION)
    drawn = [row.key[0] for batch in islice(stream, 160) for row in batch]
    wanted = 2.0 * STAGE.sets["tiny_s"] / (2.0 * STAGE.sets["tiny_s"] + 1.0 * STAGE.sets["tiny_sit"])
    assert abs(drawn.count("s") / len(drawn) - wanted) < 0.03


def test_a_set_is_gone_through_before_it_repeats() -> None:
    stream = batches({"tiny_s": SETS["tiny_s"]}, STAGE.sets, STAGE.batch_size, 0, BY_DURATION)
    drawn = [row.key for batch in islice(stream, 16) for row in batch]
    counts = {drawn.count(row.key) for row in SETS["tiny_s"]}
    assert max(counts) - min(counts) <= 1


def test_rows_of_like_length_come_together() -> None:
    lengths = {"tiny_s": range(50), "tiny_sit": range(50, 100)}
    number = {row.key: n for name, rows in SETS.items() for n, row in zip(lengths[name], rows, strict=True)}
    stream = batches(SETS, STAGE.sets, STAGE.batch_size, 0, lengths)
    found = [[number[row.key] for row in batch] for batch in islice(stream, 16)]
    # A sixteenth of the pool, in order, spans about a sixteenth of the hundred lengths.
    assert max(max(batch) - min(batch) for batch in found) < 15


def test_an_answer_that_is_no_text_is_named(tmp_path: Path) -> None:
    said = SupervisionSegment("s", "s", 0.0, 1.0, text="a", language="en", custom={"response": None})
    write_cuts([MonoCut("c7", 0.0, 1.0, channel=0, supervisions=[said])], tmp_path / "cuts.jsonl.gz")
    with pytest.raises(ManifestError, match="cut c7 has no response"):
        read_rows(tmp_path, PARAMS.filter)


def test_a_batch_has_no_more_than_so_many_seconds() -> None:
    def drawn(max_batch_s: float, start: int = 0) -> list[list[Row]]:
        stream = batches(SETS, STAGE.sets, STAGE.batch_size, 0, BY_DURATION, max_batch_s, start)
        return list(islice(stream, 60))

    found = drawn(20.0)
    seconds = [sum(row.duration_s for row in batch) for batch in found]
    assert max(seconds) <= 20
    assert max(len(batch) for batch in found) <= STAGE.batch_size
    assert sum(seconds) / len(seconds) > 15
    assert drawn(20.0, start=25)[:35] == found[25:]
    assert {len(batch) for batch in drawn(0.5)} == {1}


def test_a_share_of_the_rows_stands_in_the_tags() -> None:
    sets, weights = with_tagged(SETS, STAGE.sets, 0.25)
    lengths = BY_DURATION | {f"{name} in tags": numbers for name, numbers in BY_DURATION.items()}
    drawn = [row for batch in islice(batches(sets, weights, 32, 0, lengths), 160) for row in batch]
    assert abs(sum(row.tagged for row in drawn) / len(drawn) - 0.25) < 0.03
    assert {row.key for row in drawn if row.tagged} == {row.key for rows in SETS.values() for row in rows}
