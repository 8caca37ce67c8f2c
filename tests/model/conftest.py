"""The golden models, loaded once, and their cases."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from azeros.model.speech_llm import AZerosModel

NAMES = ["stage1", "stage2", "whisper_stage1"]


@dataclass
class Golden:
    """One golden model with its inputs and outputs."""

    folder: Path
    model: AZerosModel
    cases: dict[str, Any]
    tensors: dict[str, Tensor]

    def case(self, key: str) -> dict[str, Any]:
        return next(case for kind in ("gen", "train") for case in self.cases[kind] if case["key"] == key)

    def features(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        lens = self.tensors["x_lens"][indices]
        return self.tensors["x"][indices, : int(lens.max())], lens

    def audios(self, case: dict[str, Any]) -> Any:
        if "raw" in case.get("input", ""):
            return [self.tensors[f"wav{index}"] for index in case["wavs"]]
        return self.features(case["wavs"])


GoldenOf = Callable[[str], Golden]


@pytest.fixture(scope="session")
def golden_of(golden: Path) -> GoldenOf:
    @cache
    def load(name: str) -> Golden:
        folder = golden / "azeros" / name
        cases = json.loads((folder / "cases.json").read_text())
        model = AZerosModel.from_pretrained(folder / "checkpoint")
        return Golden(folder, model, cases, load_file(folder / "golden.safetensors"))

    torch.set_num_threads(1)
    return load


@pytest.fixture
def stage2(golden_of: GoldenOf) -> Golden:
    return golden_of("stage2")
