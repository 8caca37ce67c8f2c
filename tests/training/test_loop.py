"""Training on the shipped foundation: only projectors learn, and a run that stops goes on bit for bit."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lhotse import MonoCut, SupervisionSegment

from azeros import AZerosModel
from azeros.errors import StageError
from azeros.params import TrainStage, Validation, load_params
from azeros.sift.prompts import wrap_metadata
from azeros.training.encoded import EncodedCuts
from azeros.training.encoders import StoredEncoder
from azeros.training.loop import (
    Step,
    _check_growth,
    _encoded,
    _step,
    checkpoint_activations,
    has_stalled,
    messages_of,
    num_tokens,
    train,
)
from azeros.training.processes import ALONE, Processes
from azeros.training.rows import Row, Rows, batches

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "azeros" / "tiny" / "weights"
Log = Callable[[Mapping[str, float], int], Mapping[str, float] | None]


def stage(**update: object) -> TrainStage:
    small = {"num_steps": 6, "batch_size": 2, "checkpoint_every_steps": 2, "log_every_steps": 2}
    return load_params(ROOT / "params.yaml").train.stage1.model_copy(update={**small, **update})


def rows() -> list[Row]:
    said = SupervisionSegment("s", "s", 0.0, 1.0, text="a")
    cuts = [MonoCut(f"c{i}", 0.0, 1.0, channel=0, supervisions=[said]) for i in range(8)]
    return [Row.of(cut, "", f"the number is {word}.") for cut, word in zip(cuts, "abcdefgh", strict=True)]


def encoded(model: AZerosModel) -> EncodedCuts:
    width = int(model.speech_encoder.output_dim)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    return EncodedCuts({"speech": {f"c{i}": torch.randn(20, width, generator=generator) for i in range(8)}})


def log(metrics: Mapping[str, float], step: int) -> None:
    assert "step" not in metrics


def run(work: Path, settings: TrainStage, log: Log = log) -> tuple[AZerosModel, list[dict[str, float]]]:
    model = AZerosModel.from_foundation(str(WEIGHTS / "llm"), str(WEIGHTS / "speech_encoder"), seed=0)
    encoder = StoredEncoder(encoded(model))
    lengths = {"tiny_s": list(num_tokens(rows(), model, encoder))}
    stream = partial(
        batches, {"tiny_s": Rows.of(rows())}, settings.sets, settings.batch_size, 1, lengths, None
    )
    return model, train(model, stream, encoder, settings, work, log)


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


def test_a_killed_run_stops_early_where_an_unbroken_one_does(tmp_path: Path) -> None:
    for name in ("unbroken", "broken"):
        (tmp_path / name / "key").mkdir(parents=True)
    patient = Validation(every_steps=1, num_cuts=1, num_answers=0, patience=2)
    settings = stage(validation=patient, log_every_steps=1)

    def gap(metrics: Mapping[str, float], step: int) -> Mapping[str, float]:
        return {"gap_divergence": {1: 3.0, 2: 2.0, 3: 2.5, 4: 2.0}[step]}

    def kill(metrics: Mapping[str, float], step: int) -> Mapping[str, float]:
        if step == 3:
            raise KeyboardInterrupt
        return gap(metrics, step)

    whole, curve = run(tmp_path / "unbroken" / "key", settings, gap)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken" / "key", settings, kill)
    # The second run goes on from step 2, the third from where it had stopped.
    for _ in range(2):
        resumed, again = run(tmp_path / "broken" / "key", settings, gap)
        assert again[-1]["step"] == curve[-1]["step"] == 4
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize(
    ("gaps", "stalls"),
    [([3, 2], False), ([3, 3], True), ([2, 3, 1], False), ([3, 2, 1], False), ([1, 3, 2], True), ([], False)],
)
def test_a_gap_stalls_that_gets_no_narrower(gaps: list[float], stalls: bool) -> None:
    curve = [point for gap in gaps for point in ({"gap_divergence": gap}, {"loss": 0.0})]
    assert has_stalled(curve, patience=1 if len(gaps) < 3 else 2) is stalls


def test_the_length_of_a_row_is_what_the_language_model_is_given() -> None:
    names = ("llm", "speech_encoder", "paraling_encoder")
    model = AZerosModel.from_foundation(*(str(WEIGHTS / name) for name in names), seed=0)
    outputs = {
        branch: {"c0": torch.zeros(num, int(getattr(model, f"{branch}_encoder").output_dim))}
        for branch, num in (("speech", 23), ("paraling", 30))
    }
    known = EncodedCuts(outputs)
    answers = ["the number is nine. 你好", "tom sings", "the number<|truncated|>", ""]
    asked = [
        Row.of(rows()[0].cut, question, answer)
        for question in ("what is the topic?", "")
        for answer in answers
    ]
    read = [
        model.prepare_training(
            [messages_of(row, model.audio_token_wrapped)], model.project(known.batch(["c0"]))
        )
        for row in asked
    ]
    lengths = [inputs["inputs_embeds"].shape[1] for inputs in read]
    assert list(num_tokens(asked, model, StoredEncoder(known))) == lengths
    assert len(set(lengths)) > 4


def test_a_tagged_row_is_read_as_the_text_of_stage_2() -> None:
    row = replace(Row.of(rows()[0].cut, "", "yes"), tagged=True)
    user = messages_of(row, "<|AUDIO|>")[0]["content"]
    assert user.replace("<|AUDIO|>", "tom sings") == wrap_metadata("tom sings", {})


def test_only_projectors_learn(tmp_path: Path) -> None:
    (tmp_path / "w" / "key").mkdir(parents=True)
    fresh = AZerosModel.from_foundation(str(WEIGHTS / "llm"), str(WEIGHTS / "speech_encoder"), seed=0)
    trained, curve = run(tmp_path / "w" / "key", stage(num_steps=12))
    changed = {k for k, v in trained.state_dict().items() if not torch.equal(v, fresh.state_dict()[k])}
    assert {k.split(".")[0] for k in changed} == {"speech_encoder_projector"}
    assert curve[-1]["loss"] < curve[0]["loss"]


class Watched(torch.optim.SGD):
    """Changes nothing, and keeps the gradients that it was to use."""

    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, lr=0.0)
        self.params, self.seen = params, torch.empty(0)

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.seen = torch.cat([p.grad.flatten() for p in self.params if p.grad is not None])


def gradient(settings: TrainStage) -> tuple[torch.Tensor, Step]:
    """Of one step over all rows, in float64: that of fresh projectors makes a hundred times as much of float32's rounding."""
    model = AZerosModel.from_foundation(str(WEIGHTS / "llm"), str(WEIGHTS / "speech_encoder"), seed=0)
    model = model.double()
    if settings.activation_checkpointing:
        checkpoint_activations(model.llm)
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = Watched(params)
    keys = [row.key for row in rows()]
    micro_batches = [
        (some, replace(outputs, speech=outputs.speech.double()))
        for some, outputs in _encoded(rows(), keys, StoredEncoder(encoded(model)), settings, 1)
    ]
    step = _step(model, micro_batches, optimizer, params, settings, ALONE)
    return optimizer.seen, step


@pytest.mark.parametrize(
    "spread", [{"micro_batch_size": 1}, {"micro_batch_size": 3}, {"activation_checkpointing": True}]
)
def test_what_saves_memory_changes_nothing_else(spread: dict[str, object]) -> None:
    expected, step = gradient(stage())
    found, again = gradient(stage(**spread))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-5)
    assert again.loss == pytest.approx(step.loss)
    assert again.accuracy == pytest.approx(step.accuracy)


def test_activations_are_checkpointed() -> None:
    """What the backward pass computes anew runs the first layer's MLP twice a step."""
    calls = 0

    def count(*args: object) -> None:
        nonlocal calls
        calls += 1

    model = AZerosModel.from_foundation(str(WEIGHTS / "llm"), str(WEIGHTS / "speech_encoder"), seed=0)
    checkpoint_activations(model.llm)
    model.llm.model.layers[0].mlp.register_forward_pre_hook(count)
    messages = [[{"role": "user", "content": "<|AUDIO|>"}, {"role": "assistant", "content": "yes"}]]
    frames = [torch.zeros(3, model.llm.config.hidden_size, requires_grad=True)]
    model(**model.prepare_training(messages, frames)).loss.backward()
    assert calls == 2


def test_the_gradient_is_clipped() -> None:
    free, step = gradient(stage())
    clipped, same = gradient(stage(max_gradient_norm=0.01))
    assert step.gradient_norm == same.gradient_norm == pytest.approx(float(free.norm()), rel=1e-4)
    torch.testing.assert_close(clipped, free * (0.01 / free.norm()), atol=1e-7, rtol=1e-3)


def test_the_language_model_may_be_in_bfloat16() -> None:
    model = AZerosModel.from_foundation(
        str(WEIGHTS / "llm"), str(WEIGHTS / "speech_encoder"), seed=0, dtype=torch.bfloat16
    )
    messages = [[{"role": "user", "content": "<|AUDIO|>"}, {"role": "assistant", "content": "yes"}]]
    frames = [torch.zeros(3, model.llm.config.hidden_size, requires_grad=True)]
    out = model(**model.prepare_training(messages, frames))
    out.loss.backward()
    assert out.loss.dtype is torch.float32
    assert frames[0].grad is not None
    assert frames[0].grad.dtype is torch.float32


def test_a_loss_that_grows_stops_the_run_before_its_state_is_saved(tmp_path: Path) -> None:
    work = tmp_path / "w" / "key"
    work.mkdir(parents=True)
    learning = stage(num_steps=20, log_every_steps=10, checkpoint_every_steps=20)
    run(work, learning)
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    for value in state["params"].values():
        value.mul_(-10)
    torch.save(state, work / "checkpoint.pt")
    with pytest.raises(StageError, match=r"grown from [\d.]+ to [\d.]+ .* on cuts c"):
        run(work, learning.model_copy(update={"num_steps": 40, "max_loss_growth": 1.2}))
    assert torch.load(work / "checkpoint.pt", weights_only=True)["step"] == 20


@pytest.mark.parametrize(
    ("lowest", "loss", "stops"),
    [(0.02, 0.09, False), (0.02, 0.11, True), (1.0, 2.9, False), (1.0, 3.1, True)],
)
def test_a_loss_that_is_small_may_grow(lowest: float, loss: float, stops: bool) -> None:
    step: Any = SimpleNamespace(loss=loss, keys=["cut"])
    with pytest.raises(StageError, match="on cuts cut") if stops else nullcontext():
        _check_growth([step], [{"loss": 5.0}, {"loss": lowest}], limit=3.0)


def test_a_gradient_that_is_not_finite_stops_the_run_before_its_state_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work := tmp_path / "w" / "key").mkdir(parents=True)
    share = Processes.sum_gradients

    def overflow(self: Processes, params: Sequence[torch.nn.Parameter]) -> None:
        share(self, params)
        assert params[0].grad is not None
        params[0].grad[0] = torch.inf

    monkeypatch.setattr(Processes, "sum_gradients", overflow)
    with pytest.raises(StageError, match="the gradient is inf on cuts c"):
        run(work, stage(checkpoint_every_steps=1))
    assert not list(work.iterdir())


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (work := tmp_path / "w" / "key").mkdir(parents=True)
    for content in (b"", b"half of it"):
        (work / "checkpoint.pt").write_bytes(content)
        with pytest.raises(StageError, match=r"checkpoint\.pt: damaged .* delete it"):
            run(work, stage())


def test_a_loss_that_is_not_finite_names_the_cuts(tmp_path: Path) -> None:
    (tmp_path / "w" / "key").mkdir(parents=True)
    endless = load_params(ROOT / "params.yaml").train.stage1.schedule.model_copy(update={"base_lr": 1e30})
    with pytest.raises(StageError, match="cuts c"):
        run(tmp_path / "w" / "key", stage(schedule=endless, optimizer="adam"))
