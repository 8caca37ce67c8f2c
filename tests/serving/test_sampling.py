"""Draws follow transformers' warpers."""

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from azeros.serving.sampling import Sampling, choose


def test_greedy_rows_beside_drawn_ones_are_greedy() -> None:
    scores = torch.randn(3, 11, generator=torch.Generator().manual_seed(1))
    samplings = [Sampling(), Sampling(temperature=1.0, seed=1), Sampling()]
    tokens = choose(scores, samplings, [own.generator() for own in samplings])
    assert [tokens[0], tokens[2]] == scores[[0, 2]].argmax(dim=-1).tolist()


@pytest.mark.parametrize(
    "odd", [{"temperature": 1e-50}, {"temperature": 1e-38}, {"temperature": 1.0, "top_p": 1e-50}]
)
def test_what_float32_cannot_tell_from_0_takes_the_likeliest(odd: dict[str, float]) -> None:
    scores = 100 * torch.randn(2, 11, generator=torch.Generator().manual_seed(1))
    samplings = [Sampling(**odd, seed=1), Sampling()]  # type: ignore[arg-type]
    tokens = choose(scores, samplings, [own.generator() for own in samplings])
    assert tokens == scores.argmax(dim=-1).tolist()


def test_scores_that_are_no_numbers_harm_their_own_row_alone() -> None:
    scores = torch.stack([torch.full((11,), torch.nan), torch.arange(11.0)])
    samplings = [Sampling(temperature=1.0, top_p=0.5, seed=1), Sampling()]
    assert choose(scores, samplings, [own.generator() for own in samplings])[1] == 10


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.8), (2.0, 0.5), (1.0, 1e-6)])
def test_tokens_are_drawn_as_often_as_they_should(temperature: float, top_p: float) -> None:
    num = 20_000
    scores = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, 1.5]])
    warped = TemperatureLogitsWarper(temperature)(None, scores)
    wanted = TopPLogitsWarper(top_p)(None, warped).softmax(dim=-1)[0]
    sampling = Sampling(temperature=temperature, top_p=top_p, seed=3)
    tokens = choose(scores.expand(num, -1), [sampling] * num, [sampling.generator()] * num)
    found = torch.bincount(torch.tensor(tokens), minlength=6) / num
    assert torch.equal(found > 0, wanted > 0)
    torch.testing.assert_close(found, wanted, atol=0.015, rtol=0)
