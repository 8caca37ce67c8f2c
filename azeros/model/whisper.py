"""Whisper's encoder as the semantic branch, without padding to 30 s (spec/AZEROS.md section 1).

Letters: B batch, N samples, T feature frames (100 Hz), F mel bins, T' encoder frames (50 Hz), D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from azeros.errors import AudioError
from azeros.model.checkpoint import match_keys

_SAMPLING_RATE = 16_000  # Hz
# How a whole Whisper names its encoder, and the decoder's parts that are left out.
_PREFIXES = ("model.encoder.", "encoder.")


@dataclass
class WhisperOutput:
    """What the encoder returns; frames past an item's length are not meaningful."""

    encoder_out: Tensor
    """(B, T', D) float, 50 Hz."""
    encoder_out_lens: Tensor
    """(B,) int64, valid frames."""


class WhisperSpeechEncoder(WhisperEncoder):
    """Whisper's encoder with the call of a Zipformer; its positions are cut to the length of the input."""

    stride = 2
    """Feature frames to an encoder frame."""
    padding = 0.0
    """What fills the features of a batch."""
    can_mask = False
    """Whether `forward` knows how to keep padding from an item."""

    @property
    def window(self) -> int:
        """Feature frames that are encoded together at most: those that there are positions for, 30 s."""
        return self.stride * int(self.max_source_positions)

    @property
    def num_features(self) -> int:
        """Width F of a feature frame."""
        return int(self.num_mel_bins)

    @property
    def output_dim(self) -> int:
        """Width of `encoder_out`."""
        return int(self.config.d_model)

    def forward(self, x: Tensor, x_lens: Tensor) -> WhisperOutput:
        """Encode a batch; nothing masks its padding, as in the original.

        Args:
            x: (B, T, F) float, log-mel frames at 100 Hz, at most `window`.
            x_lens: (B,) int64, frames of each item.

        Raises:
            AudioError: the batch is longer than `window`.
        """
        if x.shape[1] > self.window:
            raise AudioError(
                f"{x.shape[1]} feature frames are too many for this Whisper: give at most {self.window}"
            )
        hidden = functional.gelu(self.conv1(x.transpose(1, 2)))
        hidden = functional.gelu(self.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, None)
        lens = torch.div(x_lens - 1, 2, rounding_mode="floor") + 1
        return WhisperOutput(self.layer_norm(hidden), lens)

    @classmethod
    def from_state(cls, values: dict[str, Any], state: dict[str, Tensor], where: str) -> WhisperSpeechEncoder:
        """Build from the content of a config.json and the tensors by name; those of a whole Whisper will do.

        Raises:
            ModelError: keys are missing or left over; they are named.
        """
        for prefix in _PREFIXES:
            state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} or state
        model = cls(WhisperConfig(**values))
        match_keys(model, state, where)
        model.load_state_dict({k: v.float() for k, v in state.items()})
        model.train(False)
        return model


def log_mel(wave: NDArray[np.float32], num_bins: int) -> Tensor:
    """Whisper's own features (T, F) float32 of samples (N,) at 16 kHz, as long as the audio is."""
    extract = _extractor(num_bins)
    features = extract(
        wave, sampling_rate=_SAMPLING_RATE, padding="do_not_pad", truncation=False, return_tensors="np"
    )
    return torch.from_numpy(features["input_features"][0].T.copy())


@cache
def _extractor(num_bins: int) -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=num_bins)
