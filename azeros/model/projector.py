"""The trained part: encoder frames to vectors that stand among the language model's token embeddings.

Letters: B batch, T' encoder frames (25 Hz), D encoder width, r frames a token, d width of the language model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """Concatenate `rate` neighbouring frames, then Linear, ReLU, Linear."""

    def __init__(self, encoder_dim: int, llm_dim: int, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.linear1 = nn.Linear(rate * encoder_dim, llm_dim)
        self.linear2 = nn.Linear(llm_dim, llm_dim)

    def forward(self, x: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T', D) float, lens (B,) int64 -> (B, T' // r, d), lens // r; the rest is dropped."""
        num = x.shape[1] // self.rate
        x = x[:, : num * self.rate].reshape(x.shape[0], num, self.linear1.in_features)
        return self.linear2(self.linear1(x).relu()), torch.div(lens, self.rate, rounding_mode="floor")
