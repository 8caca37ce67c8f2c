"""Adapters against PEFT's own wrapper around transformers' own model."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from azeros.errors import ModelError
from azeros.model.adapters import add_adapter, merge_adapters, save_adapter
from azeros.params import Lora
from tests.sift.random_llm import save_random_llm

SETTINGS = Lora(rank=2, alpha=4, modules=["q_proj", "down_proj"])
IDS = torch.tensor([[5, 9, 2, 7]])


@pytest.fixture
def llm(tmp_path: Path) -> torch.nn.Module:
    save_random_llm(tmp_path / "llm")
    return load(tmp_path)


def load(tmp_path: Path) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "llm", dtype=torch.float32).eval()
    return model.requires_grad_(False)


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=IDS).logits


def train(model: torch.nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for param in model.parameters():
        if param.requires_grad:
            param.data.normal_(std=0.3)


def test_a_new_adapter_changes_nothing_and_trains_alone(llm: torch.nn.Module) -> None:
    before = logits(llm)
    add_adapter(llm, SETTINGS, seed=1)
    assert torch.equal(logits(llm), before)
    trained = {name.split(".")[-3] for name, param in llm.named_parameters() if param.requires_grad}
    assert trained == {"lora_A", "lora_B"}
    train(llm, 0)
    assert not torch.allclose(logits(llm), before, atol=1e-2)


def test_the_seed_draws_it(tmp_path: Path, llm: torch.nn.Module) -> None:
    drawn = []
    for seed in (1, 1, 2):
        model = load(tmp_path)
        add_adapter(model, SETTINGS, seed)
        drawn.append(torch.cat([p.flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_what_is_kept_is_what_peft_loads_and_what_is_merged(tmp_path: Path, llm: torch.nn.Module) -> None:
    names = set(llm.state_dict())
    add_adapter(llm, SETTINGS, seed=1)
    train(llm, 0)
    trained = logits(llm)
    save_adapter(llm, tmp_path / "adapters" / "stage1")
    wrapped = PeftModel.from_pretrained(load(tmp_path), str(tmp_path / "adapters" / "stage1"))
    assert torch.equal(logits(wrapped), trained)
    merged = load(tmp_path)
    merge_adapters(merged, tmp_path / "adapters")
    assert torch.allclose(logits(merged), trained, atol=1e-5)
    assert set(merged.state_dict()) == names
    assert not any(param.requires_grad for param in merged.parameters())


def test_adapters_add_up_in_order(tmp_path: Path, llm: torch.nn.Module) -> None:
    for number, name in enumerate(("stage1", "stage2")):
        model = load(tmp_path)
        merge_adapters(model, tmp_path / "adapters")
        add_adapter(model, SETTINGS, seed=number)
        train(model, number)
        last = logits(model)
        save_adapter(model, tmp_path / "adapters" / name)
    both = load(tmp_path)
    merge_adapters(both, tmp_path / "adapters")
    assert torch.allclose(logits(both), last, atol=1e-5)


def test_layers_that_are_not_there_and_damage_are_named(tmp_path: Path, llm: torch.nn.Module) -> None:
    with pytest.raises(ModelError, match=r"lora\.modules: the language model has no layers named c_attn"):
        add_adapter(llm, SETTINGS.model_copy(update={"modules": ["c_attn"]}), seed=1)
    add_adapter(llm, SETTINGS, seed=1)
    save_adapter(llm, tmp_path / "adapters" / "stage1")
    weights = tmp_path / "adapters" / "stage1" / "adapter_model.safetensors"
    assert load_file(weights)
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ModelError, match="stage1: this adapter does not fit"):
        merge_adapters(load(tmp_path), tmp_path / "adapters")
