"""Reading and writing model folders: config.json and weights in the layouts that exist.

They are those of spec/ZIPFORMER.md section 2 and spec/AZEROS.md section 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from azeros.errors import ModelError

WEIGHT_FILES = ("pretrained.safetensors", "model.safetensors", "pretrained.pt", "model.pt")
PROJECTORS = ("speech_encoder_projector", "paraling_encoder_projector")
_COMPOSITES = ("audio_encoder", "speech_encoder", "encoder")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of `folder`/config.json.

    Raises:
        ModelError: it is missing or not JSON.
    """
    path = folder / "config.json"
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise ModelError(f"{folder}: no config.json there: give a model's folder or a hub id") from None
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}): fetch the model again") from None


def find_weights(folder: Path) -> Path:
    """The first of the known weight files in `folder`.

    Raises:
        ModelError: there is none.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder}: no weights there: one of {', '.join(WEIGHT_FILES)} is needed")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pt file by name; a .pt is never allowed to execute anything.

    Raises:
        ModelError: the file is truncated or of another format.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise a different type for each way of being broken
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{path}: cannot be read as weights ({reason}): the file is damaged, fetch it again"
        ) from error
    state = state.get("state_dict", state)
    wrapped = {k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")}
    return wrapped or state


def load_state_dict(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config values and weights of one encoder's folder; one inside a composite checkpoint is unwrapped.

    Raises:
        ModelError: config or weights are missing or unreadable.
    """
    values, state = read_config(folder), read_weights(find_weights(folder))
    for name in _COMPOSITES:
        if f"{name}_config" in values:
            prefix = f"{name}."
            inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            return values[f"{name}_config"], inner
    return values, state


def match_keys(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Check that `state` has exactly the tensors of `model`, in name and shape.

    Raises:
        ModelError: names the first missing, unexpected and misshapen tensors.
    """
    own = model.state_dict()
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": sorted(
            f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
            for k in own.keys() & state.keys()
            if own[k].shape != state[k].shape
        ),
    }
    found = [
        f"{len(names)} {what}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        for what, names in problems.items()
        if names
    ]
    if found:
        raise ModelError(
            f"{where}: weights do not fit the config ({'; '.join(found)}): use the files of one model"
        )


def take_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix` and a dot, without them."""
    return {k.removeprefix(f"{prefix}."): v for k, v in state.items() if k.startswith(f"{prefix}.")}


def write_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a .safetensors file, for all whom the umask lets read: safetensors itself makes it its owner's alone."""
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata={"format": "pt"})
    path.chmod(mode)


def save_whole(model: nn.Module, path: Path) -> None:
    """Write every tensor of `model` to a .safetensors file; of tied ones the first."""
    state: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in written or not tensor.numel():
            state[name] = tensor
            written.add(tensor.data_ptr())
    write_tensors(state, path)


def save_projectors(model: nn.Module, path: Path) -> None:
    """Write the projectors of `model`, all that training changes, to a .safetensors file, float32."""
    write_tensors({k: v.float() for k, v in model.state_dict().items() if k.startswith(PROJECTORS)}, path)


def load_projectors(model: nn.Module, path: Path) -> None:
    """Copy a file of projectors into `model`; a projector that the file does not hold keeps its values.

    A model of stage 2 so takes the semantic projector of stage 1 and starts its second one afresh.

    Raises:
        ModelError: the file is missing or damaged, holds something else, or does not fit the model.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no projectors there: run the training stage that makes them")
    state = read_weights(path)
    own = [name for name in PROJECTORS if getattr(model, name, None) is not None]
    found = [name for name in own if take_prefix(state, name)]
    unexpected = sorted(k for k in state if k.partition(".")[0] not in found)
    if unexpected or not found:
        held = f"{', '.join(unexpected[:3])}, which the model has not" if unexpected else "no projector"
        raise ModelError(f"{path}: it holds {held}: use what training wrote for this foundation")
    for name in found:
        part = take_prefix(state, name)
        match_keys(getattr(model, name), part, f"{path}: {name}")
        getattr(model, name).load_state_dict(part)
