"""Live encoding gives what the model gives, augments as the seed and the step say, and can be stopped anywhere."""

import random
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import MonoCut, Recording, SupervisionSegment

from azeros import AZerosModel
from azeros.errors import AudioError
from azeros.params import Average, load_params
from azeros.training.encoders import LiveEncoder
from azeros.training.loop import train
from azeros.training.rows import Row
from tests.conftest import ROOT

WEIGHTS = ROOT / "azeros" / "tiny" / "weights"


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    made = []
    for index in range(4):
        path = tmp_path / f"{index}.wav"
        noise = np.random.default_rng(index).normal(0, 0.1, 8000 + 4000 * index)
        soundfile.write(path, noise, 16000)
        recording = Recording.from_file(path)
        said = SupervisionSegment(path.stem, recording.id, 0.0, recording.duration, text="a")
        cut = MonoCut(path.stem, 0.0, recording.duration, 0, supervisions=[said], recording=recording)
        made.append(Row.of(cut, "", f"the number is {index}."))
    return made


@pytest.fixture
def model() -> AZerosModel:
    parts = [WEIGHTS / name for name in ("llm", "speech_encoder", "paraling_encoder")]
    return AZerosModel.from_foundation(*parts, seed=1)


def numpy_state() -> list[int]:
    state: list[int] = np.random.get_state(legacy=False)["state"]["key"].tolist()
    return state


def batches(rows: list[Row]) -> Iterator[list[Row]]:
    return (list(pair) for pair in cycle([rows[:2], rows[2:], rows[1:3]]))


def test_live_outputs_are_the_models(rows: list[Row], model: AZerosModel) -> None:
    live = LiveEncoder(model, None)
    seen = list(live.load(islice(batches(rows), 7)))
    assert [batch for batch, _ in seen] == list(islice(batches(rows), 7))
    batch, loaded = seen[1]
    ours, expected = live.encode(loaded, 2), model.encode_audios([row.cut for row in batch])
    assert torch.equal(ours.speech, expected.speech)
    assert ours.paraling is not None
    assert expected.paraling is not None
    assert torch.equal(ours.paraling, expected.paraling)
    for row, num in zip(batch, expected.speech_lens.tolist(), strict=True):
        assert abs(live.num_frames(row)["speech"] - num) <= 2


def test_augmentation_follows_from_seed_and_step(rows: list[Row], model: AZerosModel) -> None:
    live, other = LiveEncoder(model, 1), LiveEncoder(model, 2)
    ((_, loaded),) = live.load(iter([rows]))
    states = random.getstate(), numpy_state(), torch.get_rng_state().tolist()
    outputs = [live.encode(loaded, step).speech for step in (1, 1, 2, 3)]
    assert states == (random.getstate(), numpy_state(), torch.get_rng_state().tolist())
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], other.encode(loaded, 1).speech)


def test_a_stopped_run_ends_where_an_unbroken_one_does(rows: list[Row], tmp_path: Path) -> None:
    settings = load_params(ROOT / "params.yaml").train.stage1.model_copy(
        update={
            "num_steps": 6,
            "checkpoint_every_steps": 4,
            "log_every_steps": 2,
            "spec_augment": True,
            "average": Average(period_steps=1, last_steps=4),
        }
    )

    def following(done: int) -> Iterator[list[Row]]:
        return islice(batches(rows), done, None)

    def run() -> list[torch.Tensor]:
        model = AZerosModel.from_foundation(WEIGHTS / "llm", WEIGHTS / "speech_encoder", seed=0)
        live = LiveEncoder(model, 7)
        train(model, following, live, settings, tmp_path, lambda values, step: None)
        return [parameter.detach() for parameter in model.speech_encoder_projector.parameters()]

    # The second run finds the checkpoint of step 4 that the first one left, and goes on from it.
    unbroken, resumed = run(), run()
    assert all(torch.equal(x, y) for x, y in zip(unbroken, resumed, strict=True))


def test_a_recording_that_is_gone_is_named(rows: list[Row], model: AZerosModel, tmp_path: Path) -> None:
    (tmp_path / "2.wav").unlink()
    with pytest.raises(AudioError, match=r"2\.wav"):
        list(LiveEncoder(model, None).load(iter([rows])))
