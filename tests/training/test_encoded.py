"""Stored encoder outputs are found by the ids of their cuts, so two recordings never share one."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import MonoCut, Recording

from azeros.errors import ManifestError
from azeros.model.speech_llm import AZerosModel
from azeros.training.encoded import encode_cuts
from tests.conftest import ROOT

WEIGHTS = ROOT / "azeros" / "tiny" / "weights"


def cut(folder: Path, loudness: float) -> MonoCut:
    folder.mkdir(parents=True)
    noise = loudness * np.random.default_rng(0).normal(size=16000)
    soundfile.write(folder / "001.wav", noise, 16000)
    recording = Recording.from_file(folder / "001.wav")
    return MonoCut("001", 0.0, recording.duration, 0, recording=recording)


def test_one_id_for_two_recordings_is_refused_and_for_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("azeros.work.WORK_ROOT", tmp_path / "work")
    model = AZerosModel.from_foundation(WEIGHTS / "llm", WEIGHTS / "speech_encoder", seed=0)
    cuts = {
        name: [cut(tmp_path / "manifests" / name, loudness)] for name, loudness in (("a", 0.1), ("b", 0.2))
    }
    encoders = {"speech": str(WEIGHTS / "speech_encoder")}
    with pytest.raises(ManifestError, match="cut 001: corpora a and b have different recordings of this id"):
        encode_cuts(model, encoders, cuts, tmp_path / "manifests")
    shared = encode_cuts(model, encoders, {"a": cuts["a"], "b": cuts["a"]}, tmp_path / "manifests")
    alone = encode_cuts(model, encoders, {"a": cuts["a"]}, tmp_path / "manifests")
    assert torch.equal(shared.batch(["001"]).speech, alone.batch(["001"]).speech)
