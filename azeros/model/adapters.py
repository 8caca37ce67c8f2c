"""LoRA on the frozen language model, for those who want it: trained beside the projectors, kept as PEFT keeps it, merged wherever it is not trained."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from azeros.errors import ModelError
from azeros.model.checkpoint import write_tensors
from azeros.params import Lora

_ADAPTER = "default"
_PREFIX = "base_model.model."  # of the names in PEFT's files


def add_adapter(llm: Any, settings: Lora, seed: int) -> None:
    """Put trainable low-rank matrices into the linear layers that `settings` name; as drawn they change no output.

    Raises:
        ModelError: the language model has no such layers.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=list(settings.modules))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, llm, _ADAPTER)
        except ValueError as error:
            raise ModelError(
                f"train.*.lora.modules: the language model has no layers named {', '.join(settings.modules)}"
            ) from error


def save_adapter(llm: Any, folder: Path) -> None:
    """Write what `add_adapter` put in: adapter_config.json and adapter_model.safetensors, which PEFT loads."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True)
    state = get_peft_model_state_dict(llm, adapter_name=_ADAPTER)
    write_tensors({_PREFIX + k: v for k, v in state.items()}, folder / "adapter_model.safetensors")
    llm.peft_config[_ADAPTER].save_pretrained(folder)


def merge_adapters(llm: Any, folder: Path) -> None:
    """Add the adapters in the subfolders of `folder`, which need not be there, to the weights of `llm`, in the order of their names.

    Raises:
        ModelError: an adapter is damaged, or of another language model.
    """
    for adapter in sorted(folder.glob("*/")):
        from peft import PeftModel
        from safetensors import SafetensorError

        try:
            with warnings.catch_warnings():
                # PEFT asks transformers a thing by a name that transformers is to drop.
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
                PeftModel.from_pretrained(llm, str(adapter)).merge_and_unload()
        except (ValueError, RuntimeError, OSError, SafetensorError) as error:
            raise ModelError(f"{adapter}: this adapter does not fit the language model: {error}") from error
