"""AZeroS itself: a packaged model hears the recording, and an instruction after it where the benchmark has one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.evaluation.systems.base import Modality, Reply, Request, answer_apart
from azeros.evaluation.systems.local import local_identity, place

if TYPE_CHECKING:
    from azeros.params import AzerosSystem


class Azeros:
    """Greedy answers of a model folder."""

    modality: Modality = "audio"
    takes_instructions = True

    def __init__(self, settings: AzerosSystem) -> None:
        """Load the model, onto the GPU if there is one.

        Raises:
            ModelError: it is not there, or not whole.
        """
        import torch

        from azeros.errors import ModelError
        from azeros.model.speech_llm import AZerosModel

        folder = Path(settings.path)
        if not folder.is_dir():
            raise ModelError(f"{folder}: no model there: run dvc repro package, or mend benchmark.systems")
        self.batch_size = settings.batch_size
        self.choice_suffix = settings.choice_suffix
        self._settings = settings
        self._model = place(AZerosModel.from_pretrained(folder, dtype=getattr(torch, settings.dtype)))

    @property
    def identity(self) -> dict[str, Any]:
        """The files of the model and all settings."""
        return local_identity(self._settings, Path(self._settings.path))

    def respond(self, requests: Sequence[Request]) -> list[Reply]:
        """Replies to recordings of like length in one batch."""
        return answer_apart(requests, self._answer)

    def _answer(self, requests: Sequence[Request]) -> list[str]:
        from azeros.data.audio import SAMPLING_RATE

        messages: list[Any] = []
        for request in requests:
            samples = request.recording.load()
            parts = [{"type": "audio", "array": samples, "sampling_rate": SAMPLING_RATE}]
            text = [{"type": "text", "text": request.instruction}] if request.instruction else []
            messages.append([{"role": "user", "content": [*parts, *text]}])
        return self._model.generate(
            [], messages, by_length=True, max_new_tokens=self._settings.max_new_tokens
        )
