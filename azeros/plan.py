"""What training will take on this machine, from a few steps of it: said before anything is spent (`azeros plan`)."""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.errors import StageError
from azeros.params import Params, TrainStage
from azeros.receipts import predict, span
from azeros.training.rows import Row, Rows, distinct

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from azeros.model.encoding import EncoderOutputs
    from azeros.model.speech_llm import AZerosModel
    from azeros.training.unreadable import Unreadable

_NUM_STEPS = 8
_SAMPLED_BATCHES = 32  # from which the measured ones are drawn
_ENCODED_CUTS = 32
_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """What a training stage will take."""

    stage: str
    processes: int
    """Each of which takes its share of a batch."""
    rows: int
    hours: float
    """Of distinct recordings."""
    steps: int
    heard_hours: float
    """Of recordings, each counted as often as it comes."""
    tokens: float
    """Positions of the language model, padding left out."""
    epochs: float
    encode_s: float
    """Once, before the first step, where encoder outputs are stored."""
    step_s: float
    memory_gb: float
    """Of the GPU that a process uses, or of a process."""
    stored_gb: float
    """Encoder outputs in .work."""
    checkpoint_gb: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.encode_s + self.steps * self.step_s

    def lines(self) -> list[str]:
        """For people."""
        encoding = f"{span(self.encode_s)} of encoding, " if self.encode_s else ""
        each = f" in each of {self.processes} processes" if self.processes > 1 else ""
        return [
            f"{self.stage}: {span(self.seconds)}",
            f"  data    {self.rows} rows of {self.hours:.2f} h; to hear: {self.heard_hours:.1f} h in {self.epochs:.1f} epochs",
            f"  tokens  {self.tokens / 1e6:.1f} million",
            f"  time    {encoding}{self.steps} steps of {self.step_s * 1000:.0f} ms",
            f"  memory  {self.memory_gb:.1f} GB{each}",
            f"  disk    {self.stored_gb:.2f} GB of encoder outputs, {self.checkpoint_gb:.3f} GB checkpoint",
        ]


def plan_stage(params: Params, name: str, targets: Path, models: Path, processes: int = 1) -> Plan:
    """Measure a few steps of training stage `name` and reckon up the rest; the run says how right that was.

    Args:
        params: settings.
        name: stage1 or stage2.
        targets: folder with the sets that sift made.
        models: folder with the stage to start from.
        processes: how many are to train; one of them is measured, without what they tell each other.

    Raises:
        StageError: there are more processes than utterances in a batch.
        StageError, ManifestError, ModelError, AudioError: what the stage itself would say of its inputs.
    """
    from azeros.stages.train import read_inputs, trainable_model

    inputs = read_inputs(params, name, targets, models)
    stage = inputs.stage
    if processes > stage.batch_size:
        raise StageError(
            f"{processes} processes cannot share batches of {stage.batch_size}: raise train.{name}.batch_size"
        )
    max_s = stage.max_batch_s / processes if stage.max_batch_s else None
    own = {"batch_size": math.ceil(stage.batch_size / processes), "max_batch_s": max_s}
    share = stage.model_copy(update=own)
    model = trainable_model(params, name, inputs)
    num_rows = sum(len(rows) for rows in inputs.sets.values())
    _, audio_s = distinct(inputs.sets.values())
    steps = _measure_steps(model, share, inputs.sets, params.seed)
    is_stored = stage.encoder_outputs == "stored"
    sampled = {row.key: row.cut for rows in inputs.sets.values() for row in _spread(rows, _ENCODED_CUTS)}
    cuts = _spread(list(sampled.values()), _ENCODED_CUTS)
    rate = _measure_encoding(model, cuts, _allowed(stage)) if is_stored else _Rate(0.0, 0.0)
    elsewhere = _frozen_bytes(model.llm) * (1 - 1 / processes) if params.train.shard_llm else 0.0
    mean_s = _mixed(
        {name: rows.duration_s / len(rows) for name, rows in inputs.sets.items()}, inputs.sets, stage
    )
    num_heard = stage.num_steps * min(stage.batch_size, (stage.max_batch_s or math.inf) / mean_s)
    plan = Plan(
        stage=name,
        processes=processes,
        rows=num_rows,
        hours=audio_s / 3600,
        steps=stage.num_steps,
        heard_hours=num_heard * mean_s / 3600,
        tokens=num_heard * _mixed(steps.tokens, inputs.sets, stage),
        epochs=num_heard / num_rows,
        encode_s=audio_s * rate.seconds,
        step_s=steps.step_s - (steps.encode_s if is_stored else 0.0),
        memory_gb=steps.memory_gb - elsewhere / 1e9,
        stored_gb=audio_s * rate.num_bytes / 1e9,
        checkpoint_gb=steps.checkpoint_gb,
    )
    predict(f"train@{name}", inputs.key, plan.seconds)
    return plan


@dataclass
class _Steps:
    step_s: float
    encode_s: float
    """Of a step."""
    memory_gb: float
    checkpoint_gb: float
    tokens: dict[str, float]
    """Set -> mean of a row."""


@dataclass
class _Timed:
    """Encodes as training does where outputs are not stored, and notes how long that takes."""

    encoder: Any
    times_s: list[float] = field(default_factory=list)

    def num_frames(self, row: Row) -> dict[str, int]:
        """Branch -> encoder frames of a row."""
        frames: dict[str, int] = self.encoder.num_frames(row)
        return frames

    def load(self, stream: Iterator[list[Row]]) -> Iterator[tuple[list[Row], Sequence[Any]]]:
        """Each batch with its features, all read before the first is given."""
        yield from list(self.encoder.load(stream))

    def encode(self, loaded: Sequence[Any], draw: int) -> EncoderOutputs:
        """The outputs of a batch."""
        began_s = time.monotonic()
        outputs: EncoderOutputs = self.encoder.encode(loaded, draw)
        self.times_s.append(time.monotonic() - began_s)
        return outputs


def _measure_steps(model: AZerosModel, stage: TrainStage, sets: Mapping[str, Rows], seed: int) -> _Steps:
    from azeros.training.encoders import LiveEncoder
    from azeros.training.loop import num_tokens, train
    from azeros.training.rows import batches

    num_sampled = _SAMPLED_BATCHES * stage.batch_size
    encoder = _Timed(LiveEncoder(model, seed if stage.spec_augment else None, _allowed(stage)))
    sampled = {name: Rows.of(_spread(rows, num_sampled)) for name, rows in sets.items()}
    lengths = {name: list(num_tokens(rows, model, encoder)) for name, rows in sampled.items()}
    stream = partial(batches, sampled, stage.sets, stage.batch_size, seed, lengths, stage.max_batch_s)
    few: dict[str, Any] = {
        "num_steps": _NUM_STEPS,
        "log_every_steps": 1,
        "checkpoint_every_steps": _NUM_STEPS,
    }
    short = stage.model_copy(update=few | {"average": None, "validation": None, "max_loss_growth": None})
    ends_s: list[float] = []

    def log(values: Mapping[str, float], step: int) -> None:
        ends_s.append(time.monotonic())

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "plan" / "steps"
        work.mkdir(parents=True)
        curve = train(model, stream, encoder, short, work, log)
        checkpoint_gb = (work / "checkpoint.pt").stat().st_size / 1e9
    steps_s = [end - start for start, end in pairwise(ends_s)]
    parts = len(encoder.times_s) // _NUM_STEPS
    return _Steps(
        statistics.mean(steps_s),
        parts * statistics.mean(encoder.times_s[parts:]),
        curve[-1]["peak_memory_gb"],
        checkpoint_gb,
        {name: statistics.mean(of_set) for name, of_set in lengths.items()},
    )


def _frozen_bytes(llm: Any) -> int:
    return sum(param.nbytes for param in llm.parameters() if not param.requires_grad)


@dataclass
class _Rate:
    """Of a second of audio, over all encoders."""

    seconds: float
    num_bytes: float


def _allowed(stage: TrainStage) -> Unreadable:
    """Recordings that cannot be read do not end the plan where a share of them does not end the stage."""
    from azeros.training.unreadable import Unreadable

    return Unreadable(sys.maxsize if stage.max_unreadable_share else 0)


def _measure_encoding(model: AZerosModel, cuts: Sequence[Cut], unreadable: Unreadable) -> _Rate:
    from azeros.training.encoded import encode_shard

    began_s = time.monotonic()
    num_bytes = 0
    for encoder in model.encoders().values():
        outputs = encode_shard(encoder, cuts, lambda count: None, unreadable)
        num_bytes += sum(item.numel() * _FLOAT32_BYTES for item in outputs.values())
    audio_s = sum(cut.duration for cut in cuts)
    return _Rate((time.monotonic() - began_s) / audio_s, num_bytes / audio_s)


def _spread(items: Sequence[Any], num: int) -> list[Any]:
    """At most `num` of `items`, from all over them."""
    return list(items[:: max(1, len(items) // num)][:num])


def _mixed(means: Mapping[str, float], sets: Mapping[str, Rows], stage: TrainStage) -> float:
    """The mean over the rows as they are mixed, by hours times weight, of sets with such `means`."""
    shares = {name: rows.duration_s * stage.sets[name] for name, rows in sets.items()}
    return sum(shares[name] * means[name] for name in sets) / sum(shares.values())
