"""A conversation over several turns, of which each audio is encoded once and each token is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from azeros.model.embedding import AudioFrames, check_slots, embed_rows
from azeros.model.generation import generate_ids
from azeros.model.processing import Message, audios_of

if TYPE_CHECKING:
    from azeros.model.encoding import Audio
    from azeros.model.speech_llm import AZerosModel


class Conversation:
    """What was said so far, with the language model's keys and values of it.

    Answers are those of `AZerosModel.generate` on all messages. Where the text of an answer would be written with other
    tokens than it was generated with, computing goes on from the first that differs.

    Attributes:
        messages: the conversation; an answer that fails leaves no trace in it.
    """

    def __init__(self, model: AZerosModel, messages: Sequence[Message] = ()) -> None:
        """Begin with `messages` without audio, a system message for instance, or with none."""
        self.messages: list[Message] = list(messages)
        self._model = model
        self._frames: AudioFrames = []
        self._ids: list[int] = []  # those whose keys and values the cache holds
        self._cache = DynamicCache(config=model.llm.config)

    @torch.no_grad()
    def ask(self, content: str | Sequence[Any], audios: Sequence[Audio] = (), **generate_config: Any) -> str:
        """Say `content` and return the answer.

        Args:
            content: text in which audios stand as `audio_token_wrapped`, or content parts.
            audios: those of `content`; none where it has them as parts.
            generate_config: as for `AZerosModel.generate`.

        Raises:
            AudioError: an audio is missing, unreadable, too short or too long.
            ModelError: a malformed message, not one slot for an audio, an unknown setting, or too long a conversation.
        """
        model, processor = self._model, self._model.processor
        message: Message = {"role": "user", "content": content}
        messages = [*self.messages, message]
        ids = processor.encode_inference(messages, model.audio_token_wrapped)
        heard = [*audios, *audios_of([[message]])]
        frames = [*self._frames, *(model.project(model.encode_audios(heard)) if heard else [])]
        (sizes,) = check_slots([ids], frames, processor, model.audio_token_wrapped)
        row = processor.expand(ids, sizes)
        known = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(row[:-1], self._ids, strict=False))
        )
        embeds, mask = embed_rows(model.llm, [row], frames, processor, "left")
        inputs = {"inputs_embeds": embeds, "attention_mask": mask, "past_key_values": self._cropped(known)}
        self._ids = []  # until the answer is whole
        (new,) = generate_ids(
            model.llm, inputs, processor.end_token_id, processor.pad_token_id, generate_config
        )
        self._ids = (row + new)[: self._cache.get_seq_length()]
        self._frames = frames
        answer = processor.decode_answer(new)
        self.messages = [*messages, {"role": "assistant", "content": answer}]
        return answer

    def _cropped(self, known: int) -> DynamicCache:
        """The cache of the first `known` tokens; an empty one where it does not hold all of them any more."""
        surplus = self._cache.get_seq_length() - known
        if not known or (surplus and any(self._cache.is_sliding)):
            self._cache = DynamicCache(config=self._model.llm.config)
        elif surplus:
            self._cache.crop(-surplus)
        return self._cache
