"""One recording, one question, one answer."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from azeros.device import default_device
from azeros.errors import ModelError

if TYPE_CHECKING:
    from azeros.model.speech_llm import AZerosModel


PACKAGED = Path("models/azeros")


@cache
def load(source: str | Path, revision: str | None = None, dtype: str = "float32") -> AZerosModel:
    """A packaged model, on the GPU if there is one; loaded once a process.

    Args:
        source: its folder, which a path must be; or, as a string, a folder or a hub id.
        revision: of a hub id.
        dtype: of the language model.

    Raises:
        ModelError: it is not there, or not whole.
    """
    import torch

    from azeros.model.speech_llm import AZerosModel

    if isinstance(source, Path) and not source.is_dir():
        raise ModelError(f"{source}: no packaged model there: run `dvc repro`, or name one with --model")
    model = AZerosModel.from_pretrained(source, revision, dtype)
    # transformers wraps `to` so that mypy loses its arguments.
    torch.nn.Module.to(model, default_device())
    return model


def answer(folder: Path, recording: Path, prompt: str, max_new_tokens: int = 200) -> str:
    """What the model in `folder` answers to `prompt` about `recording`; without a prompt, to what is said.

    Raises:
        AudioError: the recording is missing, unreadable or too short.
        ModelError: the model is missing or damaged.
    """
    model = load(folder)
    messages = [{"role": "user", "content": f"{model.audio_token_wrapped} {prompt}".strip()}]
    (text,) = model.generate([recording], [messages], max_new_tokens=max_new_tokens)
    return str(text)
