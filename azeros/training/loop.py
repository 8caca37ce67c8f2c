"""The training loop: two small projectors against frozen models, in one process or many, resumable at any step.

Whatever number of processes and micro-batches a batch is spread over, its loss is the mean over all of its supervised tokens, and so is the gradient.
"""

from __future__ import annotations

import csv
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from azeros.errors import StageError
from azeros.model.config import AUDIO_TOKEN, PARALING_WRAPPED
from azeros.model.encoding import EncoderOutputs
from azeros.model.processing import IGNORED, TRUNCATED
from azeros.model.speech_llm import AZerosModel, TrainingInputs
from azeros.params import TrainStage
from azeros.progress import track
from azeros.training.average import ParameterAverage
from azeros.training.encoders import Encoder
from azeros.training.optimizer import Muon
from azeros.training.processes import ALONE, Processes
from azeros.training.rows import Row
from azeros.training.schedule import learning_rate

_REMEDY = "lower train.*.schedule.base_lr, set train.*.max_gradient_norm, or look at the cuts; the last state is kept"
# Nats a token. Below it a few odd rows make the loss several times larger, and nothing is lost.
_CALM_LOSS = 0.1
_TOKENISED_ROWS = 10_000
# The tags of stage 2 around the one slot that stage 1 has.
_TAGGED = PARALING_WRAPPED.replace(AUDIO_TOKEN, "", 1)
VALIDATION_FIELDS = ("step", "gap_divergence", "gap_agreement")
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

    keys: list[str]
    """Of the rows of this process."""
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


def num_tokens(rows: Sequence[Row], model: AZerosModel, encoder: Encoder) -> Iterator[int]:
    """How many positions of the language model each row takes, its audio included."""
    wrapped = model.audio_token_wrapped
    rates = {branch: getattr(model, f"{branch}_encoder_projector").rate for branch in model.encoders()}

    @cache
    def around(instruction: str, tagged: bool, cut_off: bool) -> int:
        """Tokens beside audio and answer."""
        row = Row("", 0.0, instruction, TRUNCATED if cut_off else "", b"", tagged)
        read = model.processor.encode_training(messages_of(row, wrapped), wrapped).ids
        return len(read) - len(rates)

    for start in range(0, len(rows), _TOKENISED_ROWS):
        some = rows[start : start + _TOKENISED_ROWS]
        answers = [row.response.partition(TRUNCATED) for row in some]
        # All at once, which is ten times faster than one by one.
        ids = model.tokenizer([answer for answer, _, _ in answers], add_special_tokens=False)["input_ids"]
        for row, (_, cut_off, _), answer in zip(some, answers, ids, strict=True):
            frames = encoder.num_frames(row)
            heard = sum(num // rates[branch] for branch, num in frames.items())
            yield around(row.instruction, row.tagged, bool(cut_off)) + heard + len(answer)


def train(
    model: AZerosModel, batches: Callable[[int], Iterator[list[Row]]], encoder: Encoder, stage: TrainStage, work: Path,
    log: Callable[[Mapping[str, float], int], Mapping[str, float] | None], processes: Processes = ALONE,
) -> list[dict[str, float]]:  # fmt: skip
    """Train the projectors that require gradients for `stage.num_steps` steps, or until the gap stalls, and return the learning curve.

    Every `checkpoint_every_steps` the state goes to `work`; a run that finds one there goes on from it, with the batches that would have come next:
    `batches` gives those that follow when so many have been.
    Each of `processes` calls this with the same arguments and takes its share of each batch; only the first writes.
    What its `log` returns joins its point of the curve.

    Raises:
        StageError: the loss or its gradient is not finite, or the loss has grown too much: the batch's cut ids are named, and
            the last state stays in `work`; or that state is damaged.
    """
    if stage.activation_checkpointing:
        checkpoint_activations(model.llm)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(stage.optimizer, list(trainable.values()))
    average = ParameterAverage(trainable, stage.average, stage.num_steps) if stage.average else None
    done, curve = _resume(work, trainable, optimizer, average)
    since: list[Step] = []
    started = time.monotonic()
    with track(work.parent.name, stage.num_steps) as advance:
        advance(done)
        loaded = encoder.load(processes.share(rows) for rows in islice(batches(done), stage.num_steps - done))
        for number in _steps_to_take(done, stage, curve):
            asked = time.monotonic()
            rows, batch = next(loaded)
            waited = time.monotonic() - asked
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(number, stage.num_steps, stage.schedule)
            micro_batches = _encoded(rows, batch, encoder, stage, number * processes.num + processes.rank)
            since.append(_step(model, micro_batches, optimizer, list(trainable.values()), stage, processes))
            since[-1].wait_s = waited
            if average:
                average.update(number)
            advance(1)
            logs = number % stage.log_every_steps == 0 or number == stage.num_steps
            saves = number % stage.checkpoint_every_steps == 0
            if logs or saves:
                _check_growth(since, curve, stage.max_loss_growth)
            if logs:
                curve.append(_summary(number, since, optimizer, time.monotonic() - started))
                figures = {k: v for k, v in curve[-1].items() if k != "step"}
                curve[-1] |= processes.from_first(log(figures, number) or {})
                since, started = [], time.monotonic()
            if saves and processes.is_first:
                _save(work, number, trainable, optimizer, average, curve)
    if average:
        average.apply()
    return curve


def _steps_to_take(done: int, stage: TrainStage, curve: Sequence[Mapping[str, float]]) -> Iterator[int]:
    """The numbers of the steps behind `done`, up to the last or to where `curve`, which grows meanwhile, stalls."""
    patience = stage.validation.patience if stage.validation else None
    for number in range(done + 1, stage.num_steps + 1):
        if patience and has_stalled(curve, patience):
            return
        yield number


def has_stalled(curve: Sequence[Mapping[str, float]], patience: int) -> bool:
    """Whether none of the last `patience` validations found a narrower gap than those before them."""
    gaps = [point["gap_divergence"] for point in curve if "gap_divergence" in point]
    return len(gaps) > patience and min(gaps[-patience:]) >= min(gaps[:-patience])


def make_optimizer(name: Literal["adam", "muon"], params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Adam, as in the paper; or Muon, which orthogonalises the updates of weight matrices and gets further in few steps."""
    if name == "adam":
        return torch.optim.Adam(params, lr=0.0)
    return Muon(params, lr=0.0, adam_share=0.1, matrices=[p for p in params if p.ndim == 2])


def checkpoint_activations(llm: Any) -> None:
    """Have the layers of the frozen language model keep their inputs alone for the backward pass, and compute the rest anew in it."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    llm.activation_checkpointing_enable()
    for layer in llm.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            # Which these layers ask for; what is inside of them stays in eval mode, without dropout.
            layer.training = True


MicroBatch = tuple[list[Row], EncoderOutputs]


def _encoded(
    rows: list[Row], loaded: Sequence[Any], encoder: Encoder, stage: TrainStage, draw: int
) -> list[MicroBatch]:
    """The share of this process in as many parts as fit into its memory one after the other."""
    size = stage.micro_batch_size or max(len(rows), 1)
    starts = range(0, len(rows), size)
    return [
        (rows[i : i + size], encoder.encode(loaded[i : i + size], draw * len(starts) + part))
        for part, i in enumerate(starts)
    ]


def _step(
    model: AZerosModel,
    micro_batches: list[MicroBatch],
    optimizer: torch.optim.Optimizer,
    params: list[Any],
    stage: TrainStage,
    processes: Processes,
) -> Step:
    keys = [row.key for rows, _ in micro_batches for row in rows]
    inputs = [
        model.prepare_training(
            [messages_of(row, model.audio_token_wrapped) for row in rows], model.project(outputs)
        )
        for rows, outputs in micro_batches
    ]
    supervised = [int((part["labels"][:, 1:] != IGNORED).sum()) for part in inputs]
    masks = [part["attention_mask"] for part in inputs]
    audio_s = sum(row.duration_s for rows, _ in micro_batches for row in rows)
    num_supervised, num_tokens, num_positions, audio_s = processes.sums(
        [
            sum(supervised),
            sum(int(mask.sum()) for mask in masks),
            sum(mask.numel() for mask in masks),
            audio_s,
        ]
    )
    if not num_supervised:
        raise StageError("no recording of a whole batch can be read: look at the warnings above")
    loss = accuracy = 0.0
    num_idle = processes.most(len(inputs)) - len(inputs)
    idle = [_nothing_to_learn(model) for _ in range(num_idle)]
    for part, num in zip(inputs + idle, supervised + [0] * num_idle, strict=True):
        out = model(**part)
        share = num / num_supervised
        (out.loss * share).backward()
        loss += out.loss.item() * share
        accuracy += float(out.accuracy) * share
    loss, accuracy = processes.sums([loss, accuracy])
    processes.sum_gradients(params)
    gradients = [p.grad for p in params]
    norm = torch.nn.utils.get_total_norm(gradients)
    for what, value in (("loss", loss), ("gradient", norm.item())):
        if not math.isfinite(value):
            raise StageError(f"the {what} is {value} on cuts {', '.join(keys)}: {_REMEDY}")
    if stage.max_gradient_norm:
        torch.nn.utils.clip_grads_with_norm_(params, stage.max_gradient_norm, norm)
    optimizer.step()
    optimizer.zero_grad()
    return Step(keys, loss, accuracy, norm.item(), audio_s, 1 - num_tokens / num_positions)


def _nothing_to_learn(model: AZerosModel) -> TrainingInputs:
    """What a process runs beside the others' last micro-batches: a sharded language model runs in all of them or in none."""
    empty = [{"role": role, "content": ""} for role in ("user", "assistant")]
    inputs = model.prepare_training([empty], [])
    inputs["inputs_embeds"].requires_grad_()
    return inputs


def _check_growth(since: list[Step], curve: list[dict[str, float]], limit: float | None) -> None:
    """Stop before a state is saved from which training does not come back.

    Raises:
        StageError: the mean loss of the steps since the last point of the curve is `limit` times its lowest.
    """
    if limit is None or not since or not curve:
        return
    mean, lowest = sum(step.loss for step in since) / len(since), min(point["loss"] for point in curve)
    if mean > max(limit * lowest, _CALM_LOSS):
        worst = max(since, key=lambda step: step.loss)
        raise StageError(
            f"the loss has grown from {lowest:.3g} to {mean:.3g} (train.*.max_loss_growth: {limit:g}), worst with "
            f"{worst.loss:.3g} on cuts {', '.join(worst.keys)}: {_REMEDY}"
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
        "peak_memory_gb": _peak_memory_bytes() / 1e9,
    }  # fmt: skip


def _peak_memory_bytes() -> int:
    """Of this process, on its GPU if it has one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of what is left of it
        raise StageError(
            f"{path}: damaged ({type(error).__name__}); delete it, and the stage begins anew"
        ) from error
    with torch.no_grad():
        for name, param in trainable.items():
            param.copy_(state["params"][name])
    optimizer.load_state_dict(state["optimizer"])
    if average:
        average.mean, average.before = (
            {name: value.to(trainable[name].device) for name, value in part.items()}
            for part in state["average"]
        )
    return int(state["step"]), list(state["curve"])


def write_curve(path: Path, curve: list[dict[str, float]], fields: Sequence[str] = CURVE_FIELDS) -> None:
    """Points of the learning curve that have all `fields` as CSV: what DVC plots. Speed stays out: equal runs give equal files."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        points = (point for point in curve if point.keys() >= set(fields))
        writer.writerows({k: v if k == "step" else f"{v:.6g}" for k, v in point.items()} for point in points)
