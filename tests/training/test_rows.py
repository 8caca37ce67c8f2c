"""What training rows teach, and their order."""

from itertools import islice
from pathlib import Path

from lhotse import MonoCut, SupervisionSegment

from azeros.data.manifests import write_cuts
from azeros.model.foundation import load_tokenizer
from azeros.model.processing import IGNORED, AzerosProcessor
from azeros.params import load_params
from azeros.training.loop import messages_of
from azeros.training.rows import Row, batches, read_rows
from tests.conftest import ROOT

LLM = ROOT / "azeros/tiny/weights/llm"
PARAMS = load_params(ROOT / "params.yaml")
STAGE = PARAMS.train.stage2


def rows(name: str, num: int, duration_s: float) -> list[Row]:
    said = SupervisionSegment("s", "s", 0.0, duration_s, text="a")
    return [
        Row(MonoCut(f"{name}{i}", 0.0, duration_s, channel=0, supervisions=[said]), "", "b")
        for i in range(num)
    ]


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
