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
FRAMES_PER_S = 100
# What is shorter is not padded to the length of the others: that would cost more than a batch gains.
_LIKE = 2 / 3
_MOST_FRAMES = 60 * 5 * FRAMES_PER_S  # of a batch, with its padding

Piece = tuple[int, range]
"""Of which item, and which feature frames."""


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
        AudioError: a recording is too short.
    """
    from azeros.model.whisper import WhisperSpeechEncoder, log_mel

    if isinstance(encoder, WhisperSpeechEncoder):
        features = [log_mel(np.asarray(wave), encoder.num_features) for wave in waves]
        return pad_sequence(features, batch_first=True), torch.tensor([len(item) for item in features])
    from azeros.data.features import batch_fbank

    return batch_fbank(waves)


@torch.no_grad()
def run_encoder(encoder: Any, features: Tensor, lengths: Tensor, by_length: bool) -> tuple[Tensor, Tensor]:
    """Features (B, T, F) and lengths (B,) -> encoder frames (B, T', D) and lengths (B,).

    A recording longer than `encoder.window` is encoded in windows that overlap by a 25th of their length; where two
    of them meet, each gives the frames up to the middle of what they share. No frame is lost.

    With `by_length` pieces of like length share a batch, and each is what it would be alone: of equal length where the
    encoder cannot mask padding.

    Raises:
        AudioError: there is none, or an item is too short to give a token.
    """
    if not len(lengths) or int(lengths.min()) < MIN_FRAMES:
        found = f"audio {int(lengths.argmin())} has {int(lengths.min())}" if len(lengths) else "there are no"
        raise AudioError(f"{found} feature frames of 10 ms: at least {MIN_FRAMES} are needed to give a token")
    windows = [_windows(num, encoder.window) for num in lengths.tolist()]
    items: list[list[Tensor]] = [[] for _ in windows]
    how = {"alone": True} if by_length and encoder.can_mask else {}
    for batch in _batches(windows, by_length, encoder.can_mask):
        sizes = torch.tensor([len(span) for _, span in batch], device=features.device)
        longest = int(sizes.max())
        padded = [features[item, span.start : span.start + longest] for item, span in batch]
        out = encoder(pad_sequence(padded, batch_first=True, padding_value=encoder.padding), sizes, **how)
        for (item, span), frames, num in zip(
            batch, out.encoder_out, out.encoder_out_lens.tolist(), strict=True
        ):
            margin = _overlap(encoder.window) // 2 // encoder.stride
            first = span.start == 0
            last = span.stop == int(lengths[item])
            kept = frames[0 if first else margin : num if last else len(span) // encoder.stride - margin]
            items[item].append(kept)
    joined = [torch.cat(item) for item in items]
    return pad_sequence(joined, batch_first=True), torch.tensor(
        [len(item) for item in joined], device=features.device
    )


def _windows(num_frames: int, window: int) -> list[range]:
    """Which feature frames are encoded together."""
    if num_frames <= window:
        return [range(num_frames)]
    overlap = _overlap(window)
    starts = range(0, num_frames - overlap, window - overlap)
    return [range(start, min(start + window, num_frames)) for start in starts]


def _overlap(window: int) -> int:
    """Feature frames that neighbouring windows share: whole encoder frames on either side of the middle."""
    return max(MIN_FRAMES + 3, window // 25 // 8 * 8)


def _batches(windows: list[list[range]], by_length: bool, can_mask: bool) -> list[list[Piece]]:
    """Which windows of which items are encoded in one call: all short items, or equal windows of one long item."""
    pieces = [(item, span) for item, spans in enumerate(windows) for span in spans]
    if by_length and can_mask:
        return _like_length(pieces)
    batches: dict[Any, list[Piece]] = {}
    for item, span in pieces:
        key = len(span) if by_length else (item, len(span)) if len(windows[item]) > 1 else None
        batches.setdefault(key, []).append((item, span))
    return list(batches.values())


def _like_length(pieces: list[Piece]) -> list[list[Piece]]:
    """Batches of which no piece is much shorter than the longest, and which are not too large to encode at once."""
    batches: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda own: -len(own[1])):
        longest = len(batches[-1][0][1]) if batches else 0
        if len(piece[1]) < _LIKE * longest or not longest or (len(batches[-1]) + 1) * longest > _MOST_FRAMES:
            batches.append([])
        batches[-1].append(piece)
    return batches


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
