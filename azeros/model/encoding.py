"""Recordings through the frozen encoders, and their outputs through the projectors.

Letters: B batch, N samples at 16 kHz, T feature frames (100 Hz), F mel bins, T' encoder frames (25 Hz),
D encoder width, n frames of a slot, d width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from azeros.errors import AudioError

if TYPE_CHECKING:
    from lhotse.cut import Cut

    Wave = NDArray[np.float32] | Tensor
    Audio: TypeAlias = str | Path | Wave | tuple[Wave, int] | Cut
MIN_FRAMES = 21  # feature frames; fewer give no token


@dataclass
class EncoderOutputs:
    """What the frozen encoders make of a batch; frames past an item's length are not meaningful."""

    speech: Tensor
    """(B, T', D) float."""
    speech_lens: Tensor
    """(B,) int64."""
    paraling: Tensor | None = None
    """(B, T', D) float; None in stage 1."""
    paraling_lens: Tensor | None = None
    """(B,) int64; None in stage 1."""


def load_wave(audio: Audio) -> Wave:
    """Samples (N,) float32 of a recording at 16 kHz.

    Args:
        audio: a path; a lhotse cut; samples (N,) float at 16 kHz; or those with their sampling rate in Hz.

    Raises:
        AudioError: missing or unreadable, not one channel, or not finite.
    """
    from azeros.data.audio import SAMPLING_RATE, load_audio, load_cut, resample

    if isinstance(audio, str | Path):
        return load_audio(audio)
    if hasattr(audio, "supervisions"):
        return load_cut(audio)
    samples, rate = audio if isinstance(audio, tuple) else (audio, SAMPLING_RATE)
    wave = torch.as_tensor(samples)
    if wave.dim() != 1 or not wave.is_floating_point() or not bool(wave.isfinite().all()):
        raise AudioError(
            f"an audio of shape {tuple(wave.shape)} and type {wave.dtype}: "
            "give finite float samples in [-1, 1] of one channel"
        )
    wave = wave.float().cpu()
    return wave if rate == SAMPLING_RATE else torch.from_numpy(resample(wave.numpy(), rate))


def features_for(encoder: nn.Module, waves: Sequence[Wave]) -> tuple[Tensor, Tensor]:
    """The features that an encoder takes: Kaldi's log-mel for a Zipformer, Whisper's own for a Whisper.

    Args:
        encoder: which encoder they are for.
        waves: samples (N,) float32 at 16 kHz; each recording is featurised by itself.

    Returns:
        Features (B, T, F) float32, padded with log(1e-10) (Whisper: with zeros), and lengths (B,) int64.

    Raises:
        AudioError: a recording is too short, or too long for Whisper.
    """
    from azeros.model.whisper import WhisperSpeechEncoder, log_mel

    if isinstance(encoder, WhisperSpeechEncoder):
        features = [log_mel(np.asarray(wave), encoder.num_mel_bins) for wave in waves]
        return pad_sequence(features, batch_first=True), torch.tensor([len(item) for item in features])
    from azeros.data.features import batch_fbank

    return batch_fbank(waves)


@torch.no_grad()
def run_encoder(encoder: Any, features: Tensor, lengths: Tensor, by_length: bool) -> tuple[Tensor, Tensor]:
    """Features (B, T, F) and lengths (B,) -> encoder frames (B, T', D) and lengths (B,).

    With `by_length` only items of equal length share a batch, so each is what it would be alone.

    Raises:
        AudioError: there is none, or an item is too short to give a token.
    """
    if not len(lengths) or int(lengths.min()) < MIN_FRAMES:
        found = f"audio {int(lengths.argmin())} has {int(lengths.min())}" if len(lengths) else "there are no"
        raise AudioError(f"{found} feature frames of 10 ms: at least {MIN_FRAMES} are needed to give a token")
    alike = [torch.nonzero(lengths == num)[:, 0] for num in lengths.unique()]
    groups = alike if by_length else [torch.arange(len(lengths))]
    items: list[Any] = [None] * len(lengths)
    for group in groups:
        out = encoder(features[group, : int(lengths[group].max())], lengths[group])
        for index, frames, num in zip(group.tolist(), out.encoder_out, out.encoder_out_lens, strict=True):
            items[index] = (frames, num)
    frames = pad_sequence([item[0] for item in items], batch_first=True)
    return frames, torch.stack([item[1] for item in items])


def project_frames(projector: nn.Module, encoded: Tensor, lens: Tensor) -> list[Tensor]:
    """Encoder frames (B, T', D) and lengths (B,) -> for each item (n, d) float.

    Raises:
        AudioError: an item gives no frame.
    """
    device = next(projector.parameters()).device
    frames, sizes = projector(encoded.to(device), lens)
    for index, size in enumerate(sizes.tolist()):
        if not size:
            found = f"audio {index} is too short: its {lens[index]} encoder frames"
            raise AudioError(f"{found} give no token, leave it out")
    return [item[:size] for item, size in zip(frames, sizes.tolist(), strict=True)]
