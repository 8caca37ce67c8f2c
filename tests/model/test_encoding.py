"""Recordings of every length go through the encoders, long ones in windows, and none loses a frame."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from azeros.errors import AudioError
from azeros.model.encoding import run_encoder
from azeros.model.foundation import load_encoder
from azeros.model.speech_llm import AZerosModel
from azeros.model.zipformer import Zipformer
from tests.conftest import ROOT

WEIGHTS = ROOT / "azeros" / "tiny" / "weights"


@pytest.fixture(scope="module")
def encoder() -> Zipformer:
    loaded = load_encoder(WEIGHTS / "speech_encoder")
    assert isinstance(loaded, Zipformer)
    return loaded


def features(*lengths: int) -> tuple[Tensor, Tensor]:
    drawn = torch.randn(len(lengths), max(lengths), 80, generator=torch.Generator().manual_seed(1)) - 8
    for index, num in enumerate(lengths):
        drawn[index, num:] = Zipformer.padding
    return drawn, torch.tensor(lengths)


def test_windows_of_a_long_recording_meet_in_the_middle_of_what_they_share(
    encoder: Zipformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Zipformer, "window", 400)  # they share 24 feature frames, which are 6 encoder frames
    x, lens = features(1000)
    frames, nums = run_encoder(encoder, x, lens, by_length=False)
    pieces = [(0, 400), (376, 776), (752, 1000)]
    alone = [encoder(x[:, a:b], torch.tensor([b - a])).encoder_out[0] for a, b in pieces]
    expected = torch.cat([alone[0][:97], alone[1][3:97], alone[2][3:]])
    whole = encoder(x, lens)
    assert nums.tolist() == whole.encoder_out_lens.tolist() == [len(expected)]
    torch.testing.assert_close(frames[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("num", [399, 400, 401, 776, 777, 2000])
def test_every_length_gives_as_many_frames_in_windows_as_whole(
    num: int, by_length: bool, encoder: Zipformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, lens = features(num, 50)
    whole = encoder(x, lens).encoder_out_lens
    monkeypatch.setattr(Zipformer, "window", 400)
    frames, nums = run_encoder(encoder, x, lens, by_length)
    assert nums.tolist() == whole.tolist()
    assert frames.isfinite().all()


def test_neighbours_do_not_matter_by_length(encoder: Zipformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Zipformer, "window", 400)
    x, lens = features(120, 950, 300, 120)
    order = torch.tensor([2, 0, 3, 1])
    frames, nums = run_encoder(encoder, x, lens, by_length=True)
    shuffled, _ = run_encoder(encoder, x[order], lens[order], by_length=True)
    for place, item in enumerate(order.tolist()):
        alone, num = run_encoder(encoder, x[item : item + 1, : int(lens[item])], lens[item : item + 1], False)
        assert int(num) == int(nums[item])
        for ours in (frames[item], shuffled[place]):
            torch.testing.assert_close(ours[: int(num)], alone[0], atol=2e-5, rtol=1e-4)


def test_by_length_those_of_like_length_share_a_batch(encoder: Zipformer) -> None:
    lengths = (331, 330, 307, 299, 263, 241, 240, 37)
    x, lens = features(*lengths)
    sizes: list[int] = []
    with forward_calls(encoder, sizes):
        frames, nums = run_encoder(encoder, x, lens, by_length=True)
    assert sizes == [7, 1]
    for item, size in enumerate(lengths):
        alone = encoder(x[item : item + 1, :size], lens[item : item + 1]).encoder_out[0]
        torch.testing.assert_close(frames[item, : int(nums[item])], alone, atol=2e-5, rtol=1e-4)


@contextmanager
def forward_calls(encoder: Zipformer, sizes: list[int]) -> Iterator[None]:
    """Notes how many items each batch has."""
    hook = encoder.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    yield
    hook.remove()


@pytest.mark.slow
@pytest.mark.parametrize("branches", [1, 2])
def test_the_length_contract(branches: int) -> None:
    paraling = WEIGHTS / "paraling_encoder" if branches == 2 else None
    model = AZerosModel.from_foundation(WEIGHTS / "llm", WEIGHTS / "speech_encoder", paraling, seed=1)

    def tokens(duration_s: float) -> list[int]:
        wave = 0.1 * torch.randn(round(16000 * duration_s), generator=torch.Generator().manual_seed(1))
        return [len(frames) for frames in model.project(model.encode_audios([wave]))]

    for duration_s in (1, 29, 31, 50, 51, 300):
        assert tokens(duration_s) == [(100 * duration_s - 5) // 4 // 4] * branches
    with pytest.raises(AudioError, match="at least 21 are needed"):
        tokens(0.05)
    with pytest.raises(ValueError, match=r"audio 0 is 600\.1 s long: cut it into pieces of at most 600 s"):
        tokens(600.1)
