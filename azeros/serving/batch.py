"""Answers that the language model writes together; each joins and leaves when it likes.

Letters: B rows, S positions so far, L tokens of a prompt, V vocabulary, d width of the language model,
H heads with keys and values, w width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache
from transformers.cache_utils import DynamicLayer

_ROOM = 64  # positions


class RoomyLayer(DynamicLayer):
    """Keys and values (B, H, S, w) of one layer, with room for more: transformers' own copies all of them for each token."""

    _buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add keys and values (B, H, n, w), and return all."""
        if self.keys is None or self.values is None:
            self.is_initialized = True
            self.replace(key_states, value_states)
            return key_states, value_states
        start, end = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if self._buffers is None or self._buffers[0].shape[2] < end:
            self._buffers = _with_room(self.keys, end), _with_room(self.values, end)
        keys, values = self._buffers
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def replace(self, keys: Tensor, values: Tensor) -> None:
        """Hold others (B, H, S, w)."""
        self.keys, self.values = keys, values
        self._buffers = None


class Batch:
    """Keys and values of rows that are padded on the left to a common length.

    Rows end at the same position, so a step is one call with one token a row, and a row joins by being padded to the
    length of the others, or they to its. transformers' own continuous batching takes token ids, and speech has none.

    The language model must keep keys and values and nothing else. Layers with a sliding window keep all of them here,
    or rows could not be padded; the mask hides what is outside of the window.
    """

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._clear()

    def _clear(self) -> None:
        self._cache = Cache(layer_class_to_replicate=RoomyLayer)
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self._llm.device)

    def __len__(self) -> int:
        return len(self._mask)

    @property
    def _layers(self) -> list[Any]:
        return list(self._cache.layers)

    @torch.no_grad()
    def join(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """Add prompts embeds (B, L, d), padded on the left, mask (B, L): scores (B, V) float32 of their next tokens."""
        joining = Cache(layer_class_to_replicate=RoomyLayer)
        out = self._llm(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            past_key_values=joining,
            use_cache=True,
            logits_to_keep=1,
        )
        scores: Tensor = out.logits[:, -1].float()
        if not len(self):
            self._cache, self._mask = joining, mask
            return scores
        length = max(self._mask.shape[1], mask.shape[1])
        new_layers: list[Any] = list(joining.layers)
        pairs = list(zip(self._layers, new_layers, strict=True))
        # All of it before any of it is changed: where memory ends, the rows that run are still whole.
        keys = [_stack(own.keys, new.keys, length, 2) for own, new in pairs]
        values = [_stack(own.values, new.values, length, 2) for own, new in pairs]
        self._mask = _stack(self._mask, mask, length, 1)
        for layer, layer_keys, layer_values in zip(self._layers, keys, values, strict=True):
            layer.replace(layer_keys, layer_values)
        return scores

    @torch.no_grad()
    def step(self, tokens: Sequence[int]) -> Tensor:
        """Go on with one token a row: scores (B, V) float32 of those after them."""
        ids = torch.tensor(tokens, device=self._mask.device)[:, None]
        positions = self._mask.sum(dim=1, keepdim=True)
        self._mask = functional.pad(self._mask, (0, 1), value=1)
        out = self._llm(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        scores: Tensor = out.logits[:, -1].float()
        return scores

    def keep(self, rows: Sequence[int]) -> None:
        """Let all but `rows` go, and the padding that no longer pads anything."""
        if not rows:
            self._clear()
            return
        index = torch.tensor(rows, device=self._mask.device)
        mask = self._mask[index]
        start = int(mask.any(dim=0).int().argmax())
        for layer in self._layers:
            layer.replace(layer.keys[index, :, start:], layer.values[index, :, start:])
        self._mask = mask[:, start:]


def _with_room(kept: Tensor, size: int) -> Tensor:
    """A buffer (B, H, `size` and more, w) that begins with what is kept (B, H, S, w)."""
    batch, heads, length, width = kept.shape
    buffer = kept.new_empty(batch, heads, size + _ROOM, width)
    buffer[:, :, :length] = kept
    return buffer


def _stack(above: Tensor, below: Tensor, length: int, dim: int) -> Tensor:
    """Both along the first dimension, with zeros before them up to `length` in `dim`."""
    behind = [0, 0] * (above.dim() - 1 - dim)
    return torch.cat([functional.pad(x, (*behind, length - x.shape[dim], 0)) for x in (above, below)])
