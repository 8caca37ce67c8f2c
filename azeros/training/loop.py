"""The training loop: two small projectors against frozen models, resumable at any step."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from azeros.errors import StageError
from azeros.model.checkpoint import read_weights
from azeros.model.config import AUDIO_TOKEN, PARALING_WRAPPED
from azeros.model.encoding import EncoderOutputs
from azeros.model.speech_llm import AZerosModel
from azeros.params import TrainStage
from azeros.progress import track
from azeros.training.average import ParameterAverage
from azeros.training.encoders import Encoder
from azeros.training.optimizer import Muon
from azeros.training.rows import Row
from azeros.training.schedule import learning_rate

# The tags of stage 2 around the one slot that stage 1 has.
_TAGGED = PARALING_WRAPPED.replace(AUDIO_TOKEN, "", 1)
CURVE_FIELDS = (
    "step",
    "loss",
    "accuracy",
    "learning_rate",
    "gradient_norm",
    "padding_share",
)


@dataclass
class Step:
    """What one optimizer step measured."""

    loss: float
    accuracy: float
    gradient_norm: float
    audio_s: float
    padding_share: float
    wait_s: float = 0.0
    """For recordings to be read."""


def messages_of(row: Row, audio_token_wrapped: str) -> list[dict[str, str]]:
    """The conversation that a row teaches (spec/AZEROS.md section 3)."""
    wrapped = _TAGGED if row.tagged else audio_token_wrapped
    user = f"{wrapped} {row.instruction}".strip()
    return [{"role": "user", "content": user}, {"role": "assistant", "content": row.response}]


def num_tokens(row: Row, model: AZerosModel, encoder: Encoder) -> int:
    """How many positions of the language model the row takes, its audio included."""
    wrapped = model.audio_token_wrapped
    read = len(model.processor.encode_training(messages_of(row, wrapped), wrapped).ids)
    frames = encoder.num_frames(row.cut)
    slots = [num // getattr(model, f"{branch}_encoder_projector").rate for branch, num in frames.items()]
    return read - len(slots) + sum(slots)


def train(
    model: AZerosModel, stream: Iterator[list[Row]], encoder: Encoder, stage: TrainStage, work: Path,
    log: Callable[[Mapping[str, float], int], None],
) -> list[dict[str, float]]:  # fmt: skip
    """Train the projectors that require gradients for `stage.num_steps` steps and return the learning curve.

    Every `checkpoint_every_steps` the state goes to `work`; a run that finds one there goes on from it, with the batches that would have come next.

    Raises:
        StageError: the loss is not finite; the batch's cut ids are named.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(stage.optimizer, list(trainable.values()))
    average = ParameterAverage(trainable, stage.average, stage.num_steps) if stage.average else None
    done, curve = _resume(work, trainable, optimizer, average)
    since: list[Step] = []
    started = time.monotonic()
    with track(work.parent.name, stage.num_steps) as advance:
        advance(done)
        loaded = encoder.load(islice(stream, done, stage.num_steps))
        for number in range(done + 1, stage.num_steps + 1):
            asked = time.monotonic()
            rows, batch = next(loaded)
            waited = time.monotonic() - asked
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(number, stage.num_steps, stage.schedule)
            outputs = encoder.encode(batch, number)
            since.append(_step(model, rows, outputs, optimizer, list(trainable.values())))
            since[-1].wait_s = waited
            if average:
                average.update(number)
            advance(1)
            if number % stage.log_every_steps == 0 or number == stage.num_steps:
                curve.append(_summary(number, since, optimizer, time.monotonic() - started))
                log({k: v for k, v in curve[-1].items() if k != "step"}, number)
                since, started = [], time.monotonic()
            if number % stage.checkpoint_every_steps == 0:
                _save(work, number, trainable, optimizer, average, curve)
    if average:
        average.apply()
    return curve


def make_optimizer(name: Literal["adam", "muon"], params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Adam, as in the paper; or Muon, which orthogonalises the updates of weight matrices and gets further in few steps."""
    if name == "adam":
        return torch.optim.Adam(params, lr=0.0)
    return Muon(params, lr=0.0, adam_share=0.1, matrices=[p for p in params if p.ndim == 2])


def _step(
    model: AZerosModel,
    rows: list[Row],
    outputs: EncoderOutputs,
    optimizer: torch.optim.Optimizer,
    params: list[Any],
) -> Step:
    messages = [messages_of(row, model.audio_token_wrapped) for row in rows]
    inputs = model.prepare_training(messages, model.project(outputs))
    out = model(**inputs)
    if not torch.isfinite(out.loss):
        raise StageError(
            f"the loss is {out.loss.item()} on cuts {', '.join(row.key for row in rows)}: lower train.*.schedule.base_lr or look at them"
        )
    out.loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in params])
    optimizer.step()
    optimizer.zero_grad()
    mask = inputs["attention_mask"]
    return Step(
        out.loss.item(),
        float(out.accuracy),
        norm.item(),
        sum(row.cut.duration for row in rows),
        1 - mask.float().mean().item(),
    )


def _summary(
    number: int, steps: list[Step], optimizer: torch.optim.Optimizer, elapsed_s: float
) -> dict[str, float]:
    def mean(name: str) -> float:
        return sum(getattr(step, name) for step in steps) / len(steps)

    return {
        "step": number, "loss": mean("loss"), "accuracy": mean("accuracy"), "learning_rate": optimizer.param_groups[0]["lr"],
        "gradient_norm": mean("gradient_norm"), "audio_s_per_s": sum(step.audio_s for step in steps) / elapsed_s,
        "padding_share": mean("padding_share"), "data_wait_share": sum(step.wait_s for step in steps) / elapsed_s,
    }  # fmt: skip


def _save(
    work: Path,
    number: int,
    trainable: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    average: ParameterAverage | None,
    curve: list[dict[str, float]],
) -> None:
    draft = work / ".checkpoint.partial"
    state = {
        "step": number,
        "params": {k: p.detach() for k, p in trainable.items()},
        "optimizer": optimizer.state_dict(),
        "average": [average.mean, average.before] if average else None,
        "curve": curve,
    }
    # Through Python's file, whose errors say that the disk is full; torch's own do not.
    with draft.open("wb") as file:
        torch.save(state, file)
    draft.replace(work / "checkpoint.pt")


def _resume(
    work: Path,
    trainable: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    average: ParameterAverage | None,
) -> tuple[int, list[dict[str, float]]]:
    path = work / "checkpoint.pt"
    if not path.exists():
        return 0, []
    state: dict[str, Any] = read_weights(path)
    with torch.no_grad():
        for name, param in trainable.items():
            param.copy_(state["params"][name])
    optimizer.load_state_dict(state["optimizer"])
    if average:
        average.mean, average.before = state["average"]
    return int(state["step"]), list(state["curve"])


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """The learning curve as CSV, one row for each logged step: what DVC plots. Speed stays out: equal runs give equal files."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, CURVE_FIELDS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: v if k == "step" else f"{v:.6g}" for k, v in row.items()} for row in curve)
