"""Encoders and projectors as ONNX files, for runtimes without torch: features in, frames for the language model out."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from azeros.errors import ModelError
from azeros.model.encoding import MIN_FRAMES
from azeros.model.speech_llm import AZerosModel

TOLERANCE = 1e-4
# Feature frames of the batches on which a file is compared with torch: the shortest, odd ones, several windows of attention.
_CHECKED = ([MIN_FRAMES], [200, 137], [333, 331, 75])


class Branch(nn.Module):
    """An encoder and its projector."""

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, T, F) float, lengths (B,) int64 -> frames (B, n, d) float, their numbers (B,) int64."""
        out = self.encoder(features, lengths)
        frames, nums = self.projector(out.encoder_out, out.encoder_out_lens)
        return frames, nums


def export_onnx(model: AZerosModel, folder: Path) -> dict[str, float]:
    """Write `speech.onnx`, and `paraling.onnx` of a stage-2 model, with free batch and time axes.

    Inputs `features` (B, T, F) float32 and `lengths` (B,) int64, outputs `frames` (B, n, d) float32 and `num_frames`
    (B,) int64; T is at most the encoder's window. Each file is run by onnxruntime on batches of random features and
    compared with torch before it gets its name.

    Returns:
        Branch -> largest difference of a frame's value from torch's.

    Raises:
        ModelError: a file's outputs are not those of torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    differences: dict[str, float] = {}
    for name in ("speech", "paraling"):
        encoder = getattr(model, f"{name}_encoder")
        if encoder is None:
            continue
        branch = Branch(encoder, getattr(model, f"{name}_encoder_projector")).cpu()
        draft = folder / f".{name}.onnx"
        _write(branch, encoder.num_features, draft)
        differences[name] = _largest_difference(branch, encoder.num_features, draft)
        if not differences[name] <= TOLERANCE:
            raise ModelError(
                f"{draft}: its outputs differ from torch's by {differences[name]:.1e}: it is of no use; try the pinned onnx and torch (constraints.txt)"
            )
        draft.replace(folder / f"{name}.onnx")
    return differences


def _write(branch: Branch, num_features: int, path: Path) -> None:
    example = torch.zeros(2, 200, num_features), torch.tensor([200, 150])
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # it warns of operators of packages that are not installed
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        program: Any = torch.onnx.export(
            branch,
            example,
            dynamo=True,
            verbose=False,
            input_names=["features", "lengths"],
            output_names=["frames", "num_frames"],
            dynamic_shapes={"features": {0: "batch", 1: "time"}, "lengths": {0: "batch"}},
        )
    program.save(path)


def _largest_difference(branch: Branch, num_features: int, path: Path) -> float:
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    drawn = torch.Generator().manual_seed(1)
    largest = 0.0
    for sizes in _CHECKED:
        features, lengths = (
            torch.randn(len(sizes), sizes[0], num_features, generator=drawn),
            torch.tensor(sizes),
        )
        with torch.no_grad():
            expected, nums = branch(features, lengths)
        frames, found = session.run(None, {"features": features.numpy(), "lengths": lengths.numpy()})
        if found.tolist() != nums.tolist() or frames.shape != expected.shape:
            return float("inf")
        for ours, theirs, num in zip(torch.from_numpy(frames), expected, nums.tolist(), strict=True):
            if num:
                largest = max(largest, float((ours[:num] - theirs[:num]).abs().max()))
    return largest
