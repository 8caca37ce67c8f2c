"""Muon for weight matrices, Adam for the rest, in one optimizer.

torch.optim.Muon orthogonalises in bfloat16, which processors without such instructions emulate: there a step of it
took more than ten times as long as this one in float32 (`python benchmarks/optimizer.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

# The quintic of Jordan et al. (2024), https://kellerjordan.github.io/posts/muon: steep at zero, within 0.7 and 1.2 after five rounds.
_QUINTIC, _ROUNDS = (3.4445, -4.7750, 2.0315), 5


class Muon(torch.optim.Optimizer):
    """Momentum whose updates of matrices are orthogonalised.

    Args:
        params: every parameter; those named in `matrices` are updated by Muon, the others by Adam.
        lr: learning rate of the matrices; each update's root mean square is sqrt(max(1, rows / columns)) times it, over columns.
        adam_share: Adam's learning rate is this times `lr`.
        matrices: the parameters of two dimensions that are maps from vectors to vectors (not embeddings).
    """

    def __init__(
        self, params: Iterable[Parameter], lr: float, adam_share: float, matrices: Iterable[Parameter] = ()
    ) -> None:
        chosen = {id(p) for p in matrices}
        every = list(params)
        groups = [
            {"params": [p for p in every if id(p) in chosen], "muon": True},
            {"params": [p for p in every if id(p) not in chosen], "muon": False},
        ]
        super().__init__([g for g in groups if g["params"]], {"lr": lr, "adam_share": adam_share})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update with each group's learning rate."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if group["muon"]:
                    _update_matrix(p, self.state[p], group["lr"])
                else:
                    _update_other(p, self.state[p], group["lr"] * group["adam_share"])


def _update_matrix(p: Tensor, state: dict[str, Any], lr: float, momentum: float = 0.95) -> None:
    assert p.grad is not None
    average = state.setdefault("momentum", torch.zeros_like(p))
    average.lerp_(p.grad, 1 - momentum)
    update = orthogonalised(p.grad.lerp(average, momentum))
    p.add_(update, alpha=-lr * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def _update_other(
    p: Tensor, state: dict[str, Any], lr: float, beta1: float = 0.9, beta2: float = 0.95
) -> None:
    assert p.grad is not None
    first = state.setdefault("first", torch.zeros_like(p))
    second = state.setdefault("second", torch.zeros_like(p))
    state["step"] = state.get("step", 0) + 1
    first.lerp_(p.grad, 1 - beta1)
    second.lerp_(p.grad.square(), 1 - beta2)
    mean = first / (1 - beta1 ** state["step"])
    scale = (second / (1 - beta2 ** state["step"])).sqrt_().add_(1e-8)
    p.addcdiv_(mean, scale, value=-lr)


def orthogonalised(matrix: Tensor) -> Tensor:
    """(R, C) float32 with the singular vectors of `matrix` and singular values near 1 (Newton-Schulz)."""
    a, b, c = _QUINTIC
    x = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if matrix.shape[0] > matrix.shape[1] else x
