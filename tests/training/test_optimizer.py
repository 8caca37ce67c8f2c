"""Muon against torch's own optimizers."""

import copy

import pytest
import torch
from torch import nn

from azeros.training.optimizer import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(24, 24), (40, 16), (16, 40)])
def test_orthogonalised_keeps_singular_vectors_and_levels_values(shape: tuple[int, int]) -> None:
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=torch.manual_seed(0)), full_matrices=False)
    matrix = left * torch.linspace(2.0, 0.5, min(shape)) @ right
    # In the bases of the input's singular vectors the result is diagonal, and the diagonal holds its singular values.
    inside = left.mT @ orthogonalised(matrix) @ right.mT
    values = inside.diagonal()
    torch.testing.assert_close(inside, values.diag(), atol=1e-4, rtol=0)
    assert values.min() >= 0.6
    assert values.max() <= 1.3


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int, seed: int = 1) -> None:
    """Steps on random gradients that depend on `seed` only."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(16, 24)


def muon(model: nn.Module) -> Muon:
    return Muon(
        model.parameters(), lr=0.02, adam_share=0.1, matrices=[p for p in model.parameters() if p.ndim == 2]
    )


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_matrices_move_like_those_of_torch_muon(shape: tuple[int, int]) -> None:
    ours = nn.Linear(*shape, bias=False)
    before, theirs = ours.weight.detach().clone(), copy.deepcopy(ours)
    stepped(ours, Muon(ours.parameters(), lr=0.02, adam_share=0.1, matrices=ours.parameters()), 3)
    stepped(theirs, torch.optim.Muon(theirs.parameters(), lr=0.02, momentum=0.95, weight_decay=0.0), 3)
    # Torch computes the update in bfloat16, of eight bits.
    difference, change = ours.weight - theirs.weight, theirs.weight - before
    assert difference.norm() < 0.02 * change.norm()


def test_other_parameters_move_like_those_of_torch_adam() -> None:
    ours, theirs = linear(), linear()
    stepped(ours, Muon(ours.parameters(), lr=0.02, adam_share=0.1), 5)
    stepped(theirs, torch.optim.Adam(theirs.parameters(), lr=0.002, betas=(0.9, 0.95)), 5)
    for own, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, expected, atol=1e-6, rtol=1e-5)


def test_a_restored_state_continues_bit_identically() -> None:
    model = linear()
    optimizer = muon(model)
    stepped(model, optimizer, 3)
    again = linear()
    again.load_state_dict(model.state_dict())
    restored = muon(again)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    stepped(model, optimizer, 2, seed=2)
    stepped(again, restored, 2, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_parameters_without_gradient_stay() -> None:
    model = linear()
    before = model.weight.detach().clone()
    model.bias.grad = torch.ones_like(model.bias)
    muon(model).step()
    assert torch.equal(model.weight, before)
