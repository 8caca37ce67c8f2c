"""What systems in this process share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from azeros.device import default_device
from azeros.params import Section
from azeros.work import hash_files


def place(model: Any) -> Any:
    """The model in eval mode, on the GPU if there is one."""
    return model.eval().to(default_device())


def local_identity(settings: Section, folder: Path) -> dict[str, Any]:
    """The settings, the model's files, and the versions and the device that decide the last bits."""
    import torch
    import transformers

    return {
        **settings.model_dump(mode="json"),
        "decoding": "greedy",
        "files_sha256": hash_files([folder]),
        "versions": [torch.__version__, transformers.__version__],
        "device": default_device().type,
    }
