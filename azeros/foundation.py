"""The frozen models of params.yaml with trainable projectors between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from azeros.device import default_device
from azeros.params import Dtype, Params

if TYPE_CHECKING:
    import torch

    from azeros.model.speech_llm import AZerosModel

ADAPTERS = (
    "adapters"  # in the output of a training stage: a folder for each stage that trained the language model
)


def build_model(
    params: Params,
    paraling: bool,
    projectors: Path | None = None,
    dtype: Dtype = "float32",
    device: torch.device | None = None,
) -> AZerosModel:
    """The foundation with projectors drawn by `params.seed`, those found in the folder `projectors` put in their place.

    What that stage and those before it learned by LoRA is added to the language model's weights.

    Args:
        params: settings; `foundation` says where the frozen models are.
        paraling: with the paralinguistic branch (stage 2) or without (stage 1).
        projectors: output folder of a training stage.
        dtype: of the language model's weights; encoders and projectors are float32.
        device: where all of it goes; None: the GPU if there is one.

    Raises:
        ModelError: a model is missing, damaged or of another shape.
    """
    import torch

    from azeros.model.adapters import merge_adapters
    from azeros.model.checkpoint import load_projectors
    from azeros.model.speech_llm import AZerosModel

    foundation = params.foundation
    model = AZerosModel.from_foundation(
        foundation.llm,
        foundation.speech_encoder,
        foundation.paraling_encoder if paraling else None,
        seed=params.seed,
        dtype=getattr(torch, dtype),
    )
    # transformers wraps `to` so that mypy loses its arguments.
    torch.nn.Module.to(model, device or default_device())
    if projectors:
        load_projectors(model, projectors / "projectors.safetensors")
        merge_adapters(model.llm, projectors / ADAPTERS)
    return model


def encoder_paths(params: Params, paraling: bool) -> dict[str, str]:
    """Branch -> where its encoder comes from."""
    foundation = params.foundation
    paths = {"speech": foundation.speech_encoder.path}
    if paraling and foundation.paraling_encoder:
        paths["paraling"] = foundation.paraling_encoder.path
    return paths
