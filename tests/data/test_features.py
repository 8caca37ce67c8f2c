"""Features equal the reference, and an item's do not depend on its batch."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

from azeros.data.features import PAD_VALUE, batch_fbank, fbank
from azeros.errors import AudioError

_NEAR_FLOOR = -11.0  # of -15.94: float32 noise grows towards it


def agrees(features: Tensor, reference: Tensor) -> bool:
    error = (features - reference).abs()
    near = reference < _NEAR_FLOOR
    return bool((error[~near] < 5e-4).all() and (error[near] < 8e-3).all())


def waves(golden: Path) -> dict[str, np.ndarray]:
    return {
        path.stem: soundfile.read(path, dtype="float32")[0]
        for path in sorted((golden / "fbank" / "wavs").iterdir())
    }


def test_fbank_equals_the_reference(golden: Path) -> None:
    reference = load_file(golden / "fbank" / "features.safetensors")
    for name, wave in waves(golden).items():
        features = fbank(wave)
        assert features.shape == reference[name].shape
        assert agrees(features, reference[name]), name


def test_a_batch_equals_the_reference(golden: Path) -> None:
    reference = load_file(golden / "fbank" / "features.safetensors")
    names = json.loads((golden / "fbank" / "meta.json").read_text())["batch_names"]
    by_name = waves(golden)
    features, lengths = batch_fbank([by_name[name] for name in names])
    assert lengths.tolist() == reference["batch.x_lens"].tolist()
    padding = torch.arange(features.shape[1])[None] >= lengths[:, None]
    assert torch.equal(features[padding], reference["batch.x"][padding])
    assert agrees(features[~padding], reference["batch.x"][~padding])


def test_an_item_does_not_depend_on_its_batch() -> None:
    noise = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    features, lengths = batch_fbank([noise, noise[:7_000]])
    assert torch.equal(features[1, : lengths[1]], fbank(noise[:7_000]))
    assert (features[1, lengths[1] :] == PAD_VALUE).all()


def test_silence_stays_finite() -> None:
    assert fbank(np.zeros(16_000, np.float32)).min() == pytest.approx(-15.9424, abs=1e-3)


def test_too_few_samples() -> None:
    assert len(fbank(np.zeros(140, np.float32))) == 1
    with pytest.raises(AudioError, match="too short"):
        fbank(np.zeros(139, np.float32))
