"""A speech recogniser, and a language model that reads what it has understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from azeros.errors import ModelError, one_line
from azeros.evaluation.systems.base import Modality, Reply, Request, System, answer_apart
from azeros.evaluation.systems.local import local_identity

if TYPE_CHECKING:
    from azeros.params import CascadeSystem


class Cascade:
    """Any recogniser of transformers (Whisper, Parakeet, wav2vec 2.0, ...) before any system that reads."""

    modality: Modality = "audio"
    takes_instructions = True

    def __init__(self, settings: CascadeSystem, reader: System) -> None:
        """Load the recogniser, onto the GPU if there is one.

        Raises:
            ModelError: it is not there, or recognises no speech.
        """
        import torch
        from transformers import pipeline

        from azeros.device import default_device
        from azeros.model.foundation import fetch

        self.batch_size = settings.batch_size
        self.choice_suffix = settings.choice_suffix
        self._settings = settings
        self._reader = reader
        self._folder = fetch(settings.recognizer)
        make: Any = pipeline
        try:
            self._recognize: Any = make(
                "automatic-speech-recognition",
                str(self._folder),
                device=default_device(),
                dtype=getattr(torch, settings.dtype),
            )
        except Exception as error:  # transformers raises many types
            raise ModelError(
                f"{settings.recognizer.path}: no speech recogniser loads ({one_line(error)}); mend benchmark.systems"
            ) from error

    @property
    def identity(self) -> dict[str, Any]:
        """The recogniser's files, all settings, and what the reader's responses depend on."""
        return {**self._reader.identity, "recognizer": local_identity(self._settings, self._folder)}

    def respond(self, requests: Sequence[Request]) -> list[Reply]:
        """What the reader answers to the transcripts, and to the instruction below each if there is one."""
        heard = answer_apart(requests, self._transcribe)
        read = [
            replace(request, transcript="\n".join(filter(None, [reply.response, request.instruction])))
            for request, reply in zip(requests, heard, strict=True)
            if reply.response is not None
        ]
        replies = iter(self._reader.respond(read) if read else [])
        return [reply if reply.response is None else next(replies) for reply in heard]

    def _transcribe(self, requests: Sequence[Request]) -> list[str]:
        from azeros.data.audio import SAMPLING_RATE

        waves = [request.recording.load() for request in requests]
        window_s = getattr(self._recognize.feature_extractor, "chunk_length", None)
        # Whisper hears more than its window only where it writes timestamps.
        longer = window_s is not None and max(map(len, waves)) > window_s * SAMPLING_RATE
        found = self._recognize(
            [{"raw": wave, "sampling_rate": SAMPLING_RATE} for wave in waves],
            batch_size=self.batch_size,
            generate_kwargs={"num_beams": 1},  # transformers' pipeline would search with five
            **({"return_timestamps": True} if longer else {}),
        )
        return [item["text"].strip() for item in found]
