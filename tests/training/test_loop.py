"""Training on the shipped foundation: only projectors learn, and a run that stops goes on bit for bit."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from lhotse import MonoCut, SupervisionSegment

from azeros import AZerosModel
from azeros.errors import StageError
from azeros.params import TrainStage, load_params
from azeros.sift.prompts import wrap_metadata
from azeros.training.encoded import EncodedCuts
from azeros.training.encoders import StoredEncoder
from azeros.training.loop import messages_of, num_tokens, train
from azeros.training.rows import Row, batches

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "azeros" / "tiny" / "weights"


def stage(**update: object) -> TrainStage:
    small = {"num_steps": 6, "batch_size": 2, "checkpoint_every_steps": 2, "log_every_steps": 2}
    return load_params(ROOT / "params.yaml").train.stage1.model_copy(update={**small, **update})


def rows() -> list[Row]:
    said = SupervisionSegment("s", "s", 0.0, 1.0, text="a")
    cuts = [MonoCut(f"c{i}", 0.0, 1.0, channel=0, supervisions=[said]) for i in range(8)]
    return [Row(cut, "", f"the number is {word}.") for cut, word in zip(cuts, "abcdefgh", strict=True)]


def run(work: Path, settings: TrainStage) -> tuple[AZerosModel, list[dict[str, float]]]:
    model = AZerosModel.from_foundation(str(WEIGHTS / "llm"), str(WEIGHTS / "speech_encoder"), seed=0)
    width = int(model.speech_encoder.output_dim)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    outputs = {f"c{i}": torch.randn(20, width, generator=generator) for i in range(8)}
    encoder = StoredEncoder(EncodedCuts({"speech": outputs}))
    stream = batches(
        {"tiny_s": rows()}, settings.sets, settings.batch_size, 1, lambda row: num_tokens(row, model, encoder)
    )
    return model, train(model, stream, encoder, settings, work, log)


def log(metrics: Mapping[str, float], step: int) -> None:
    assert "step" not in metrics


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_stopped_run_ends_where_an_unbroken_one_does(tmp_path: Path, optimizer: str) -> None:
    for name in ("unbroken", "broken"):
        (tmp_path / name / "key").mkdir(parents=True)
    settings = stage(optimizer=optimizer)
    whole, curve = run(tmp_path / "unbroken" / "key", settings)
    run(tmp_path / "broken" / "key", settings)
    # Back to the state after step 4, as if the run had been killed there.
    four = torch.load(tmp_path / "broken" / "key" / "checkpoint.pt", weights_only=True)
    assert four["step"] == 6
    (tmp_path / "broken" / "key" / "checkpoint.pt").unlink()
    torch.save(_at_step_four(tmp_path, settings), tmp_path / "broken" / "key" / "checkpoint.pt")
    resumed, again = run(tmp_path / "broken" / "key", settings)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert [point["loss"] for point in again] == [point["loss"] for point in curve]


def _at_step_four(folder: Path, settings: TrainStage) -> dict[str, object]:
    """The checkpoint of a run whose last checkpoint was at step 4."""
    work = folder / "four" / "key"
    work.mkdir(parents=True)
    run(work, settings.model_copy(update={"checkpoint_every_steps": 4}))
    state: dict[str, object] = torch.load(work / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    return state


def test_the_length_of_a_row_is_what_the_language_model_is_given() -> None:
    names = ("llm", "speech_encoder", "paraling_encoder")
    model = AZerosModel.from_foundation(*(str(WEIGHTS / name) for name in names), seed=0)
    outputs = {
        branch: {"c0": torch.zeros(num, int(getattr(model, f"{branch}_encoder").output_dim))}
        for branch, num in (("speech", 23), ("paraling", 30))
    }
    encoded = EncodedCuts(outputs)
    row = Row(rows()[0].cut, "what is the topic?", "the number is nine. 你好")
    messages = [messages_of(row, model.audio_token_wrapped)]
    inputs = model.prepare_training(messages, model.project(encoded.batch(["c0"])))
    assert num_tokens(row, model, StoredEncoder(encoded)) == inputs["inputs_embeds"].shape[1]


def test_a_tagged_row_is_read_as_the_text_of_stage_2() -> None:
    row = Row(rows()[0].cut, "", "yes", tagged=True)
    user = messages_of(row, "<|AUDIO|>")[0]["content"]
    assert user.replace("<|AUDIO|>", "tom sings") == wrap_metadata("tom sings", {})


def test_only_projectors_learn(tmp_path: Path) -> None:
    (tmp_path / "w" / "key").mkdir(parents=True)
    fresh = AZerosModel.from_foundation(str(WEIGHTS / "llm"), str(WEIGHTS / "speech_encoder"), seed=0)
    trained, curve = run(tmp_path / "w" / "key", stage(num_steps=12))
    changed = {k for k, v in trained.state_dict().items() if not torch.equal(v, fresh.state_dict()[k])}
    assert {k.split(".")[0] for k in changed} == {"speech_encoder_projector"}
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_a_loss_that_is_not_finite_names_the_cuts(tmp_path: Path) -> None:
    (tmp_path / "w" / "key").mkdir(parents=True)
    endless = load_params(ROOT / "params.yaml").train.stage1.schedule.model_copy(update={"base_lr": 1e30})
    with pytest.raises(StageError, match="cuts c"):
        run(tmp_path / "w" / "key", stage(schedule=endless, optimizer="adam"))
