"""Which token comes next.

Letters: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from azeros.model.generation import GREEDY

# Scores divided by less leave float32's range; the likeliest token has all of the probability long before.
_COLDEST = 1e-5


@dataclass(frozen=True)
class Sampling:
    """How one answer is written; as it stands, as `AZerosModel.generate` does."""

    max_tokens: int = GREEDY["max_new_tokens"]
    min_tokens: int = 0
    """Before them the answer does not end."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Of the likeliest tokens, as many as have this share of the probability can be drawn."""
    seed: int | None = None
    """With it, the same request is answered the same, whatever else is being answered."""
    stop: tuple[str, ...] = ()
    """Strings before which the answer ends."""

    def generator(self) -> torch.Generator:
        """What the answer's draws come from."""
        generator = torch.Generator()
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed)
        return generator


def choose(scores: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]) -> list[int]:
    """The next token of each row: scores (B, V) float32, one setting and one generator a row."""
    tokens = scores.argmax(dim=-1)
    drawn = [row for row, sampling in enumerate(samplings) if sampling.temperature >= _COLDEST]
    if drawn:
        rows = torch.tensor(drawn, device=scores.device)
        temperature = scores.new_tensor([samplings[row].temperature for row in drawn])
        top_p = scores.new_tensor([samplings[row].top_p for row in drawn])
        points = torch.stack([torch.rand((), generator=generators[row]) for row in drawn]).to(scores.device)
        tokens[rows] = _draw(scores[rows] / temperature[:, None], top_p, points)
    return [int(token) for token in tokens.tolist()]


def _draw(scores: Tensor, top_p: Tensor, points: Tensor) -> Tensor:
    """Tokens (B,) that points (B,) in [0, 1) fall on, the likeliest first; top_p (B,)."""
    probabilities, order = scores.softmax(dim=-1).sort(dim=-1, descending=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    left_out = before >= top_p[:, None]
    left_out[:, 0] = False  # the likeliest can always be drawn, if float32 makes top_p 0, too
    kept = probabilities.masked_fill(left_out, 0.0)
    ends = kept.cumsum(dim=-1)
    # A point at the very end of the kept share would fall behind it by rounding.
    last = ((kept > 0).sum(dim=-1, keepdim=True) - 1).clamp(min=0)
    index = torch.searchsorted(ends, points[:, None] * ends[:, -1:], right=True).minimum(last)
    return order.gather(1, index)[:, 0]
