"""Log-mel features as the encoders expect them: 80 Kaldi bins every 10 ms, not normalised.

lhotse's own extractor computes them: it is what the original was trained with, and its import adds half a
second to torch's several, once a process.

Letters: N samples at 16 kHz, T frames at 100 Hz, B recordings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from azeros.data.audio import SAMPLING_RATE, UnusableAudio

if TYPE_CHECKING:
    from lhotse import Fbank

NUM_BINS = 80
PAD_VALUE = math.log(1e-10)
# Reflecting half a window at either end needs that many samples.
_MIN_SAMPLES = 140


def fbank(wave: NDArray[np.float32] | Tensor) -> Tensor:
    """Features (T, 80) float32 of `wave` (N,) float32 at 16 kHz, T = round(N / 160).

    Raises:
        UnusableAudio: fewer than 140 samples.
    """
    if len(wave) < _MIN_SAMPLES:
        raise UnusableAudio(
            "audio", "too short", f"{len(wave)} samples at 16 kHz, give at least {_MIN_SAMPLES}"
        )
    with torch.no_grad():
        features: Tensor = _extractor().extract(torch.as_tensor(wave), SAMPLING_RATE)
    return features


def batch_fbank(waves: Sequence[NDArray[np.float32] | Tensor]) -> tuple[Tensor, Tensor]:
    """Features (B, T, 80) float32, padded with log(1e-10), and lengths (B,) int64.

    Each recording is featurised by itself: what stands beside it in the batch changes none of its frames.
    """
    features = [fbank(wave) for wave in waves]
    lengths = torch.tensor([len(item) for item in features])
    return pad_sequence(features, batch_first=True, padding_value=PAD_VALUE), lengths


@cache
def _extractor() -> Fbank:
    from lhotse import Fbank, FbankConfig

    return Fbank(FbankConfig(num_mel_bins=NUM_BINS))
