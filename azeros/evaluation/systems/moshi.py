"""Moshi, which listens and speaks at once, by transformers' own class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from azeros.errors import ModelError, one_line
from azeros.evaluation.systems.base import Modality, Reply, Request, answer_apart
from azeros.evaluation.systems.local import local_identity, place

if TYPE_CHECKING:
    from azeros.params import MoshiSystem


class Moshi:
    """What Moshi says once a recording has ended, read off the text that it writes along with its speech.

    It has no text prompt. Its user's stream is the recording and then silence; its own streams are silent while the
    recording lasts, and then free, one text token a frame of 80 ms. It never ends by itself: `max_new_tokens` frames
    are its answer, of which the tokens between words are left out. So does VoiceBench ask it.
    """

    modality: Modality = "audio"
    takes_instructions = False
    batch_size = 1  # padding would be silence before the recording, or after it, when the answer has begun
    choice_suffix: str | None = None

    def __init__(self, settings: MoshiSystem) -> None:
        """Load the model with its codec, onto the GPU if there is one.

        Raises:
            ModelError: it is not there, or is no Moshi.
        """
        import torch
        from transformers import (
            AutoConfig,
            AutoFeatureExtractor,
            AutoTokenizer,
            MoshiForConditionalGeneration,
        )

        from azeros.model.foundation import fetch

        self._settings = settings
        self._folder = fetch(settings.model)
        moshi: Any = MoshiForConditionalGeneration
        try:
            found = AutoConfig.from_pretrained(self._folder).model_type
            if found != "moshi":
                raise ValueError(f"a model of type {found}")
            self._features: Any = AutoFeatureExtractor.from_pretrained(self._folder)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(self._folder)
            model = moshi.from_pretrained(self._folder, dtype=getattr(torch, settings.dtype))
        except Exception as error:  # transformers raises many types
            raise ModelError(f"{settings.model.path}: no Moshi loads: {one_line(error)}") from error
        self._model = place(model)

    @property
    def identity(self) -> dict[str, Any]:
        """The files of the model, which hold how its authors sample, and all settings."""
        sampled = self._model.generation_config.do_sample
        decoding = f"as its authors sample, seed {self._settings.seed}" if sampled else "greedy"
        return local_identity(self._settings, self._folder) | {"decoding": decoding}

    def respond(self, requests: Sequence[Request]) -> list[Reply]:
        """A reply to each recording; each begins with the same seed, so no reply depends on another."""
        return [reply for request in requests for reply in answer_apart([request], self._answer)]

    def _answer(self, requests: Sequence[Request]) -> list[str]:
        import soxr
        import torch

        from azeros.data.audio import SAMPLING_RATE

        (request,) = requests
        model, rate = self._model, self._features.sampling_rate
        samples = soxr.resample(request.recording.load(), SAMPLING_RATE, rate)
        heard = self._features(samples, sampling_rate=rate, return_tensors="pt")["input_values"]
        heard = heard.to(model.device, model.dtype)
        num_frames = math.ceil(heard.shape[-1] * model.config.audio_encoder_config.frame_rate / rate)
        silent = self._tokenizer.convert_tokens_to_ids("<pad>")
        torch.manual_seed(self._settings.seed)
        ids = model.generate(
            input_ids=torch.full((1, num_frames), silent, device=model.device),
            user_input_values=heard,
            moshi_input_values=torch.zeros_like(heard),
            max_new_tokens=self._settings.max_new_tokens,
            return_audio_waveforms=False,
            # Published models name a cache that transformers is about to drop.
            cache_implementation="dynamic",
            depth_decoder_cache_implementation="dynamic",
        )
        # transformers begins the streams with a frame of its own.
        return [self._tokenizer.decode(ids[0, 1 + num_frames :], skip_special_tokens=True).strip()]
