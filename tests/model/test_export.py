"""ONNX files give what torch gives, for batches and lengths that they were not traced with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from azeros.data.features import batch_fbank
from azeros.errors import ModelError
from azeros.model import export
from azeros.model.speech_llm import AZerosModel
from tests.conftest import ROOT

WEIGHTS = ROOT / "azeros" / "tiny" / "weights"


@pytest.fixture(scope="module")
def model() -> AZerosModel:
    # The smaller of the two encoders in both places: an export takes as long as its encoder is deep.
    parts = [WEIGHTS / name for name in ("llm", "paraling_encoder", "paraling_encoder")]
    return AZerosModel.from_foundation(*parts, seed=1)


@pytest.mark.slow
def test_exported_branches_give_the_models_frames(model: AZerosModel, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert max(export.export_onnx(model, tmp_path).values()) < 1e-5
    drawn = torch.Generator().manual_seed(3)
    waves = [0.1 * torch.randn(num, generator=drawn) for num in (8000, 48000, 30000)]
    features, lengths = batch_fbank(waves)
    expected = model.project(model.encode(features, lengths))
    for slot, name in enumerate(("paraling", "speech")):
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        inputs: dict[str, Any] = {"features": features.numpy(), "lengths": lengths.numpy()}
        frames, nums = session.run(None, inputs)
        for item in range(3):
            ours = expected[2 * item + slot]
            assert int(nums[item]) == len(ours)
            np.testing.assert_allclose(frames[item, : len(ours)], ours.detach().numpy(), atol=1e-5)


def test_a_file_that_computes_something_else_is_refused(
    model: AZerosModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_write", lambda branch, num_features, path: path.touch())
    monkeypatch.setattr(export, "_largest_difference", lambda branch, num_features, path: float("nan"))
    with pytest.raises(ModelError, match="differ from torch's by nan"):
        export.export_onnx(model, tmp_path)
    assert not list(tmp_path.glob("[!.]*"))
