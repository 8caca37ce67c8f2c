"""Answers that the language model writes together; each joins and leaves when it likes.

Letters: B rows, S positions so far, L tokens of a prompt, V vocabulary, d width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from azeros.errors import ModelError


class Batch:
    """Keys and values of rows that are padded on the left to a common length.

    Rows end at the same position, so a step is one call with one token a row, and a row joins by being padded to the
    length of the others, or they to its. transformers' own continuous batching takes token ids, and speech has none.
    """

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._cache = DynamicCache()
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=llm.device)

    def __len__(self) -> int:
        return len(self._mask)

    @torch.no_grad()
    def join(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """Add prompts embeds (B, L, d), padded on the left, mask (B, L): scores (B, V) float32 of their next tokens."""
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        # Without a config every layer keeps all positions, those with a sliding window too: rows can be padded.
        cache = DynamicCache()
        out = self._llm(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        scores: Tensor = out.logits[:, -1].float()
        _layers(cache)
        if not len(self):
            self._cache, self._mask = cache, mask
            return scores
        length = max(self._mask.shape[1], mask.shape[1])
        pairs = list(zip(_layers(self._cache), _layers(cache), strict=True))
        # All of it before any of it is changed: where memory ends, the rows that run are still whole.
        keys = [_stack(own.keys, new.keys, length, 2) for own, new in pairs]
        values = [_stack(own.values, new.values, length, 2) for own, new in pairs]
        self._mask = _stack(self._mask, mask, length, 1)
        for layer, own_keys, own_values in zip(_layers(self._cache), keys, values, strict=True):
            layer.keys, layer.values = own_keys, own_values
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
            self._cache, self._mask = DynamicCache(), self._mask[:0, :0]
            return
        index = torch.tensor(rows, device=self._mask.device)
        mask = self._mask[index]
        start = int(mask.any(dim=0).int().argmax())
        for layer in _layers(self._cache):
            layer.keys = layer.keys[index, :, start:]
            layer.values = layer.values[index, :, start:]
        self._mask = mask[:, start:]


def _layers(cache: DynamicCache) -> list[Any]:
    """Where keys and values are.

    Raises:
        ModelError: the language model keeps a state in which rows of unequal length cannot stand together.
    """
    if not all(type(layer) is DynamicLayer for layer in cache.layers):
        raise ModelError("the language model keeps more than keys and values: serve one with attention alone")
    return list(cache.layers)


def _stack(above: Tensor, below: Tensor, length: int, dim: int) -> Tensor:
    """Both along the first dimension, with zeros before them up to `length` in `dim`."""
    behind = [0, 0] * (above.dim() - 1 - dim)
    return torch.cat([functional.pad(x, (*behind, length - x.shape[dim], 0)) for x in (above, below)])
