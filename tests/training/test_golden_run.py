"""The original trainer's run, step by step: its losses, learning rates and projectors (spec/AZEROS.md section 5)."""

import json
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from azeros.model.encoding import EncoderOutputs
from azeros.model.speech_llm import AZerosModel
from azeros.params import TrainStage
from azeros.training.loop import train
from azeros.training.rows import Row

PAPER: dict[str, Any] = {
    "start_from": None,
    "sets": {"golden": 1.0},
    "batch_size": 3,
    "max_batch_s": None,
    "micro_batch_size": None,
    "llm_dtype": "float32",
    "activation_checkpointing": False,
    "max_gradient_norm": None,
    "max_loss_growth": None,
    "max_unreadable_share": 0.0,
    "validation": None,
    "optimizer": "adam",
    "schedule": {"base_lr": 1e-3, "eden_steps": 7500, "warmup_steps": 500, "decay_share": 0.0},
    "log_every_steps": 1,
    "checkpoint_every_steps": 1000,
    "encoder_outputs": "live",
    "average": None,
    "spec_augment": False,
    "lora": None,
}


class Batched:
    """Encoder outputs of recordings by number, batched with padding as the original batches them."""

    def __init__(self, model: AZerosModel, tensors: dict[str, torch.Tensor]) -> None:
        self.model, self.tensors = model, tensors

    def load(self, stream: Iterator[list[Row]]) -> Iterator[tuple[list[Row], list[int]]]:
        return ((rows, [int(row.key) for row in rows]) for rows in stream)

    def encode(self, indices: list[int], draw: int) -> EncoderOutputs:
        lens = self.tensors["x_lens"][indices]
        return self.model.encode(self.tensors["x"][indices, : int(lens.max())], lens)


def rows_of(batch: dict[str, Any]) -> list[Row]:
    parts = zip(batch["wavs"], batch["instructions"], batch["responses"], strict=True)
    return [Row(str(wav), 1.0, instruction, response, b"") for wav, instruction, response in parts]


@pytest.mark.parametrize("num_steps", [16, 25])
def test_every_step_is_the_originals(num_steps: int, golden: Path, tmp_path: Path) -> None:
    expected = json.loads((golden / "trainer" / "run_stage1.json").read_text())
    model = AZerosModel.from_pretrained(golden / "azeros" / "stage1" / "checkpoint")
    encoded: Any = Batched(model, load_file(golden / "azeros" / "stage1" / "golden.safetensors"))
    batches = [rows_of(batch) for batch in expected["batches"]]
    stage = TrainStage(**PAPER, num_steps=num_steps)
    curve = train(
        model,
        lambda done: islice(cycle(batches), done, None),
        encoded,
        stage,
        tmp_path,
        lambda values, step: None,
    )
    for ours, theirs in zip(curve, expected["trace"], strict=False):
        assert ours["learning_rate"] == pytest.approx(theirs["lr"], rel=1e-12)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5), theirs["step"]
        assert ours["accuracy"] == pytest.approx(theirs["acc"], rel=1e-6)
    file = {16: "checkpoint-16.pt", 25: "epoch-1.pt"}[num_steps]
    state = torch.load(golden / "trainer" / "run_stage1" / file, weights_only=True)["model"]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter, state[name], atol=2e-5, rtol=1e-4)
