"""A language model that reads what the others hear: the ceiling of a speech LLM with this language model in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from azeros.evaluation.systems.base import Modality, Reply, Request, answer_apart
from azeros.evaluation.systems.local import local_identity, place

if TYPE_CHECKING:
    from azeros.params import TextSystem


class TextLLM:
    """Greedy answers to the transcript, read as AZeroS's language model reads text."""

    modality: Modality = "text"
    takes_instructions = True
    choice_suffix: str | None = None  # AIR-Bench has no transcripts

    def __init__(self, settings: TextSystem) -> None:
        """Load the model, onto the GPU if there is one.

        Raises:
            ModelError: it is not there, or not whole.
        """
        import torch

        from azeros.model.foundation import LLMOptions, fetch, load_llm, load_tokenizer
        from azeros.model.processing import AzerosProcessor

        self.batch_size = settings.batch_size
        self._settings = settings
        self._folder = fetch(settings.llm)
        self._processor = AzerosProcessor(load_tokenizer(self._folder))
        self._llm = place(load_llm(self._folder, LLMOptions(getattr(torch, settings.dtype))))

    @property
    def identity(self) -> dict[str, Any]:
        """The files of the model and all settings."""
        return local_identity(self._settings, self._folder)

    def respond(self, requests: Sequence[Request]) -> list[Reply]:
        """Replies to prompts of like length in one batch."""
        return answer_apart(requests, self._answer)

    def _shown(self, transcript: str) -> str:
        removed = self._settings.removed
        if not removed:
            return transcript
        return " ".join(transcript.translate(dict.fromkeys(map(ord, removed), " ")).split())

    def _answer(self, requests: Sequence[Request]) -> list[str]:
        import torch

        from azeros.model.embedding import embed_rows
        from azeros.model.generation import generate_ids

        processor = self._processor
        # As a content part, in which special tokens that the data spell out are text.
        messages: list[Any] = [
            [{"role": "user", "content": [{"type": "text", "text": self._shown(request.transcript or "")}]}]
            for request in requests
        ]
        with torch.no_grad():
            rows = [processor.encode_inference(row) for row in messages]
            embeds, mask = embed_rows(self._llm, rows, [], processor, "left")
            new = generate_ids(
                self._llm,
                {"inputs_embeds": embeds, "attention_mask": mask},
                processor.end_token_id,
                processor.pad_token_id,
                {"max_new_tokens": self._settings.max_new_tokens},
            )
        return [processor.decode_answer(ids) for ids in new]
