"""Rows of token ids and audio frames to the language model's inputs.

Letters: B rows, L tokens of a row, n frames of a slot, d width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from azeros.errors import ModelError
from azeros.model.config import AUDIO_TOKEN
from azeros.model.processing import AzerosProcessor

_PADDING = -1  # no token's id

AudioFrames = list[Tensor]
"""For each slot (n, d) float, in slot order: an audio's paralinguistic frames, if any, come first."""


def check_slots(
    rows: Sequence[Sequence[int]], frames: AudioFrames, processor: AzerosProcessor, wrapped: str
) -> list[list[int]]:
    """For each row the number of frames of its slots; `wrapped` is how an audio should stand in a message.

    Raises:
        ModelError: no rows, or another number of slots than of `frames`.
    """
    if not rows:
        raise ModelError("an empty batch: give at least one conversation")
    nums = [processor.num_slots(row) for row in rows]
    if sum(nums) != len(frames):
        slots_each = wrapped.count(AUDIO_TOKEN)
        raise ModelError(
            f"{sum(nums)} audio slots in the messages (by conversation: {', '.join(map(str, nums))}) for "
            f"{len(frames) // slots_each} audios of {slots_each}: write {wrapped} once for each audio"
        )
    sizes = iter([len(item) for item in frames])
    return [[next(sizes) for _ in range(num)] for num in nums]


def embed_rows(
    llm: Any, rows: list[list[int]], frames: AudioFrames, processor: AzerosProcessor, padding_side: str
) -> tuple[Tensor, Tensor]:
    """Embeddings (B, L, d) with frames in the places of `<|AUDIO|>`, and attention mask (B, L) int64.

    Padding tokens inside a row are masked too, as in the original; only an answer to learn can hold one.
    """
    tensors = [torch.tensor(row) for row in rows]
    padded = pad_sequence(tensors, batch_first=True, padding_value=_PADDING, padding_side=padding_side)
    ids = padded.to(llm.device)
    is_audio = ids == processor.audio_token_id
    # The embedding matrix may have no row for `<|AUDIO|>`.
    embeds: Tensor = llm.get_input_embeddings()(
        ids.masked_fill(is_audio | (ids == _PADDING), processor.pad_token_id)
    )
    if frames:
        embeds = embeds.masked_scatter(is_audio[..., None], torch.cat(frames).to(embeds))
    hole = _PADDING if processor.hole_id is None else processor.hole_id
    return embeds, ((ids != _PADDING) & (ids != hole)).long()
