"""Two processes hold the language model together, and each computes with it what it would with a whole one."""

import copy
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn
from transformers import AutoModelForCausalLM

from azeros.training.loop import checkpoint_activations
from azeros.training.sharding import shard
from tests.conftest import ROOT


def held(llm: torch.nn.Module) -> int:
    """Parameters of which this process has its part, counted."""
    return sum(param.to_local().numel() for param in llm.parameters() if isinstance(param, DTensor))


def compare(rank: int, folder: str, tied: bool) -> None:
    """A whole language model and one that is spread over two processes, each of which has other rows."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    weights = ROOT / "azeros/tiny/weights/llm"
    whole = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval().requires_grad_(False)
    if not tied:
        whole.lm_head.weight = torch.nn.Parameter(whole.lm_head.weight * 2, requires_grad=False)
    trained = whole.model.layers[0].self_attn.q_proj.bias.requires_grad_()
    spread = copy.deepcopy(whole)
    shard(spread)
    checkpoint_activations(spread)
    frozen = sum(param.numel() for param in whole.parameters() if not param.requires_grad)
    assert held(spread) == pytest.approx(frozen / 2, rel=0.01)
    torch.manual_seed(rank)
    for _ in range(2):
        ids = torch.randint(0, whole.config.vocab_size, (2, 5 + rank))
        results = []
        for llm in (whole, spread):
            embeds = llm.get_input_embeddings()(ids).requires_grad_()
            logits = llm(inputs_embeds=embeds, use_cache=False).logits
            logits.square().mean().backward()
            results.append((logits, embeds.grad, llm.model.layers[0].self_attn.q_proj.bias.grad))
        torch.testing.assert_close(results[1], results[0])
    assert trained.grad is not None
    assert held(spread) == pytest.approx(frozen / 2, rel=0.01)
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_half_a_language_model_computes_what_a_whole_one_does(tmp_path: Path, tied: bool) -> None:
    spawn(compare, (str(tmp_path), tied), nprocs=2)
