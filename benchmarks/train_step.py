"""Training steps of azeros against a plain loop: same model, same batches, equal losses, one process; one thread and CPU time, or one GPU.

The loop is the original's way, but for frozen encoders in eval, without which no two losses would be equal: batches of four cuts as they come, padded to
the longest, logits of the whole vocabulary and their argmax at every position, and every 200 steps a running mean of all parameters in float64.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lhotse import MonoCut, SupervisionSegment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, Qwen2Config

import azeros.tiny
from azeros.model.config import AzerosConfig
from azeros.model.encoding import FRAMES_PER_S, EncoderOutputs
from azeros.model.foundation import Parts, load_encoder, load_tokenizer
from azeros.model.speech_llm import AZerosModel
from azeros.model.zipformer import Zipformer, ZipformerConfig
from azeros.params import Average, Schedule, TrainStage
from azeros.tiny.world import World
from azeros.training.loop import messages_of, num_tokens, train
from azeros.training.rows import Row, Rows, batches
from azeros.training.schedule import learning_rate

WEIGHTS = Path(azeros.tiny.__file__).parent / "weights"
LARGE_ENCODER = {
    "encoder_dim": [192, 256, 512, 768, 512, 256],
    "feedforward_dim": [576, 768, 1536, 2304, 1536, 768],
    "num_encoder_layers": [2, 2, 4, 5, 4, 2],
}
QWEN_7B: dict[str, Any] = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152_064}  # fmt: skip
SMALL: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 151_936}  # fmt: skip
BATCH_SIZE = 4
AVERAGE_PERIOD = 200
CHARS_PER_S = 15
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-2}  # relative, of a loss; bfloat16 on the GPU


@dataclass
class Measured:
    """One way of training over all steps."""

    name: str
    losses: list[float]
    step_s: float
    peak_bytes: int
    audio_s: float
    padding_share: float


class Features:
    """Encoder outputs computed for each batch from features that are in memory."""

    def __init__(self, model: AZerosModel, features: dict[str, Tensor]) -> None:
        self._model, self._features = model, features

    def num_frames(self, row: Row) -> dict[str, int]:
        """Branch -> encoder frames of a cut, to within two."""
        return {
            name: len(self._features[row.key]) // encoder.stride
            for name, encoder in self._model.encoders().items()
        }

    def load(self, stream: Iterator[list[Row]]) -> Iterator[tuple[list[Row], list[Tensor]]]:
        """Each batch with its features."""
        return ((rows, [self._features[row.key] for row in rows]) for rows in stream)

    def encode(self, loaded: Sequence[Tensor], step: int) -> EncoderOutputs:
        """The outputs of a batch, padded as the original pads it."""
        lengths = torch.tensor([len(item) for item in loaded])
        return self._model.encode(pad_sequence(list(loaded), batch_first=True, padding_value=-23.03), lengths)


def build(on_gpu: bool) -> AZerosModel:
    """A model with a random language model: 7B and encoders of 153M on a GPU, else a small one under the tiny encoders."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(WEIGHTS / "llm")
    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    shape = Qwen2Config(**(QWEN_7B if on_gpu else SMALL), tie_word_embeddings=False)
    with torch.device(device):
        llm = AutoModelForCausalLM.from_config(shape, dtype=dtype).eval()
    speech, paraling = (_encoder(name, on_gpu) for name in ("speech_encoder", "paraling_encoder"))
    config = AzerosConfig(
        llm_config=llm.config,
        speech_encoder_config=speech.config.to_dict(),
        paraling_encoder_config=paraling.config.to_dict(),
    )
    return AZerosModel(Parts(config, tokenizer, llm, speech, paraling, {}))


def _encoder(name: str, on_gpu: bool) -> Any:
    return (
        Zipformer(ZipformerConfig.from_dict(LARGE_ENCODER)).eval() if on_gpu else load_encoder(WEIGHTS / name)
    )


def utterances(num: int) -> list[Row]:
    """Of 1 to 12 sentences of the tiny world, lengths about log-normal as in real corpora; answers as long as what was said."""
    rng, world = random.Random(0), World()
    rows = []
    for index in range(num):
        count = max(1, min(12, round(rng.lognormvariate(0.8, 0.8))))
        said, answer = (
            " ".join(world.sentence(rng, "en", "test").text for _ in range(count)) for _ in range(2)
        )
        duration_s = max(1.0, len(said) / CHARS_PER_S)
        segment = SupervisionSegment(f"{index}", f"{index}", 0.0, duration_s, text=said)
        rows.append(
            Row.of(MonoCut(f"{index}", 0.0, duration_s, channel=0, supervisions=[segment]), "", answer)
        )
    return rows


class Meter:
    """Seconds (CPU time; on a GPU, of the clock) and the peak of memory from where it is made."""

    def __init__(self, on_gpu: bool) -> None:
        self._on_gpu = on_gpu
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # Linux starts the process's peak anew
        self._start = self._now()

    def _now(self) -> float:
        return time.perf_counter() if self._on_gpu else time.process_time()

    def read(self) -> tuple[float, int]:
        """Seconds, bytes."""
        if self._on_gpu:
            torch.cuda.synchronize()
            return self._now() - self._start, torch.cuda.max_memory_allocated()
        taken_s = self._now() - self._start
        line = next(
            line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
        )
        return taken_s, int(line.split()[1]) * 1024


def plain(
    model: AZerosModel, stream: Sequence[list[Row]], encoder: Features, stage: TrainStage, on_gpu: bool
) -> Measured:
    """The original's loop."""
    meter = Meter(on_gpu)
    mean = {name: p.detach().cpu().double() for name, p in model.named_parameters()}
    set_up_s, _ = meter.read()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=0.0)
    losses, padding = [], 0.0
    for number, (rows, features) in enumerate(encoder.load(iter(stream)), 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(number, stage.num_steps, stage.schedule)
        frames = model.project(encoder.encode(features, number))
        inputs = model.prepare_training([messages_of(row, model.audio_token_wrapped) for row in rows], frames)
        out = model.llm(**inputs)
        with torch.no_grad():
            likeliest, wanted = out.logits.argmax(dim=-1)[:, :-1], inputs["labels"][:, 1:]
            accuracy = (likeliest == wanted)[wanted != -100].float().mean()
        assert 0 <= accuracy.item() <= 1
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(out.loss.item())
        padding += 1 - inputs["attention_mask"].float().mean().item()
    training_s, peak = meter.read()
    for name, p in model.named_parameters():  # as it is done every period
        mean[name] = mean[name] * 0.5 + p.detach().cpu().double() * 0.5
    average_s = meter.read()[0] - training_s
    step_s = (training_s - set_up_s) / len(losses) + average_s / AVERAGE_PERIOD
    return Measured("the plain loop", losses, step_s, peak, _audio_s(stream), padding / len(losses))


def ours(
    name: str, model: AZerosModel, stream: Sequence[list[Row]], encoder: Any, stage: TrainStage, on_gpu: bool
) -> Measured:
    """The loop of the stage train."""
    with tempfile.TemporaryDirectory() as work:
        meter = Meter(on_gpu)
        curve = train(
            model, lambda done: iter(stream), encoder, stage, Path(work), lambda metrics, step: None
        )
        taken_s, peak = meter.read()
    padding = sum(point["padding_share"] for point in curve) / len(curve)
    return Measured(
        name, [point["loss"] for point in curve], taken_s / len(curve), peak, _audio_s(stream), padding
    )


def _audio_s(stream: Sequence[list[Row]]) -> float:
    """Of a step."""
    return sum(row.duration_s for rows in stream for row in rows) / len(stream)


def main() -> None:
    """Run the ways in turn from the same projectors, compare losses, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="of each way (default 20)")
    parser.add_argument(
        "--gpu", action="store_true", help="a random 7B language model and 153M encoders on a GPU"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = build(args.gpu)
    stage = TrainStage(
        start_from=None, sets={"rows": 1.0}, num_steps=args.steps, batch_size=BATCH_SIZE, max_batch_s=None, optimizer="adam",
        micro_batch_size=None, llm_dtype="float32", activation_checkpointing=False, max_gradient_norm=None, max_loss_growth=None, max_unreadable_share=0.0,
        validation=None,
        schedule=Schedule(base_lr=1e-3, eden_steps=7500, warmup_steps=500, decay_share=0.0),
        log_every_steps=1, checkpoint_every_steps=args.steps + 1, encoder_outputs="live",
        average=Average(period_steps=args.steps, last_steps=args.steps), spec_augment=False, lora=None,
    )  # fmt: skip
    rows = utterances(args.steps * BATCH_SIZE)
    drawn = torch.Generator().manual_seed(1)
    features = {
        row.key: torch.randn(int(row.duration_s * FRAMES_PER_S), 80, generator=drawn) * 3 - 8 for row in rows
    }
    live = Features(model, features)
    in_order = [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]
    lengths = {"rows": list(num_tokens(rows, model, live))}
    by_length = batches({"rows": Rows.of(rows)}, stage.sets, BATCH_SIZE, 1, lengths)
    fresh = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def start_again() -> None:
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name in fresh:
                    p.copy_(fresh[name])

    measured = [plain(model, in_order, live, stage, args.gpu)]
    start_again()
    measured.append(ours("ours, the same batches", model, in_order, live, stage, args.gpu))
    start_again()
    batched = [next(by_length) for _ in range(args.steps)]
    measured.append(ours("ours, batches by length", model, batched, live, stage, args.gpu))
    start_again()
    _report(measured, TOLERANCE["cuda" if args.gpu else "cpu"])


def _report(measured: Sequence[Measured], tolerance: float) -> None:
    first = measured[0]
    print(f"{'':<44}{'ms a step':>10}{'audio s/s':>11}{'peak MiB':>10}{'padding':>9}{'ratio':>7}")
    for way in measured:
        speed, base = way.audio_s / way.step_s, first.audio_s / first.step_s
        print(
            f"{way.name:<44}{way.step_s * 1e3:>10.0f}{speed:>11.1f}{way.peak_bytes / 2**20:>10.0f}"
            f"{way.padding_share:>8.0%} {speed / base:>6.2f}"
        )
    worst = max(abs(a - b) / b for a, b in zip(measured[1].losses, first.losses, strict=True))
    print(
        f"losses of {len(first.losses)} steps on the same batches: greatest relative difference {worst:.1e}"
    )
    if not worst <= tolerance:
        raise SystemExit(f"the losses differ by more than {tolerance}")


if __name__ == "__main__":
    main()
