"""Messages to token ids: templates, audio slots, and which tokens are learned (spec/AZEROS.md section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import AutoProcessor, ProcessorMixin

from azeros.errors import ModelError
from azeros.model.chat import END_OF_TURN, START_OF_TURN, ChatTemplate, render_chat
from azeros.model.config import AUDIO_TOKEN, AzerosConfig

Message = Mapping[str, Any]
"""A role and its content: a string in which audios stand as `audio_token_wrapped`, or a list of parts, each
`{"type": "text", "text": str}`, `{"type": "audio", "path": str}` or `{"type": "audio", "array": (N,) float, "sampling_rate": Hz}`."""

TRUNCATED = "<|truncated|>"
IGNORED = -100
MAX_TRAINING_TOKENS = 512
_ROLES = ("system", "user", "assistant")
# Noncharacters of Unicode, which no text should hold; one that the conversation lacks marks where to break.
_MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


class RowTooLong(ModelError):
    """A training row whose audio leaves no room for an answer."""


@dataclass(frozen=True)
class EncodedConversation:
    """Token ids of a conversation and its answer, each audio slot one `<|AUDIO|>`."""

    ids: list[int]
    num_prompt: int
    """How many of `ids` come before the answer."""


@dataclass(frozen=True)
class TrainingRow:
    """One conversation as the language model reads it, each slot as many `<|AUDIO|>` as it has frames."""

    ids: list[int]
    labels: list[int]
    """The id where it is to be learned, else -100."""


class AzerosProcessor(ProcessorMixin):
    """A tokenizer that holds `<|AUDIO|>`, and how conversations are written with it.

    What people write is text and stays text: `<|im_end|>` and its like in the content of a message are
    encoded as the characters they consist of. The exception is the content of assistant turns in training,
    which is read as the original reads it: the language model wrote it, decoded without special tokens.

    A language model with Qwen's turns trains in the original's template, any other in its own chat template.
    """

    def __init__(self, tokenizer: Any, chat_template: str | None = None) -> None:
        template = chat_template or tokenizer.chat_template
        super().__init__(tokenizer, chat_template=template)  # type: ignore[no-untyped-call]
        self.tokenizer: Any = tokenizer
        known = tokenizer.get_vocab()
        lacks = [
            what
            for what, has in ((AUDIO_TOKEN, AUDIO_TOKEN in known), ("chat template", template))
            if not has
        ]
        if lacks:
            raise ModelError(
                f"{tokenizer.name_or_path}: the tokenizer has no {' and no '.join(lacks)}: use one of a language "
                "model that was trained to converse"
            )
        self._chat = ChatTemplate(tokenizer, template)
        self.audio_token_id: int = known[AUDIO_TOKEN]
        self.end_token_id = self._chat.end_token_id
        pad = tokenizer.pad_token_id
        self.pad_token_id: int = self.end_token_id if pad is None else pad

    def encode_inference(self, messages: Sequence[Message], wrapped: str = AUDIO_TOKEN) -> list[int]:
        """Token ids of a conversation in the tokenizer's own chat template, up to where the answer begins.

        Args:
            messages: the conversation.
            wrapped: how an audio part stands in it: `audio_token_wrapped` of the model.

        Raises:
            ModelError: a message lacks its role or content, or has a part that is not understood.
        """
        _check_messages(messages)
        mark = _unused_mark(messages)
        turns = [{"role": m["role"], "content": self._as_text(m["content"], mark, wrapped)} for m in messages]
        return self._encode(self._chat.inference(turns), mark)

    def encode_training(self, messages: Sequence[Message], wrapped: str = AUDIO_TOKEN) -> EncodedConversation:
        """Token ids of a conversation with its answer.

        The original's template adds no system turn; its header's newline is taken to be one token, as in the
        original: an answer that begins with a newline may share that token, which is then not learned.

        The conversation ends at `<|truncated|>` in an answer, so that no end token is learned there.

        Args:
            messages: the conversation; the assistant's contents are strings.
            wrapped: how an audio part stands in it: `audio_token_wrapped` of the model.

        Raises:
            ModelError: a message lacks its role or content, the last one is not the assistant's, or the chat template
                refuses the conversation.
        """
        _check_messages(messages)
        if messages[-1]["role"] != "assistant":
            last = messages[-1]["role"]
            raise ModelError(f"a training row ends with a message of the {last}: add the answer to learn")
        mark = _unused_mark(messages)
        turns, truncated = [], False
        for message in messages:
            content = message["content"]
            if message["role"] == "assistant":
                content, cut, _ = content.partition(TRUNCATED)
                truncated = bool(cut)
            else:
                content = self._as_text(content, mark, wrapped)
            turns.append({"role": message["role"], "content": content})
            if truncated:
                break
        if self._chat.has_qwen_turns:
            text = render_chat(turns)
            ids = self._encode(text.removesuffix(f"{END_OF_TURN}\n") if truncated else text, mark)
            return EncodedConversation(ids, self._answer_start(ids))
        prompt, answer = self._chat.split(turns)
        if truncated:
            content = turns[-1]["content"].rstrip()
            answer = answer[: answer.rindex(content) + len(content)]
        prompt_ids = self._encode(prompt, mark)
        return EncodedConversation(prompt_ids + self._encode(answer, mark), len(prompt_ids))

    def training_row(self, conversation: EncodedConversation, slot_sizes: Sequence[int]) -> TrainingRow:
        """Fill the audio slots, cut the row at 512 tokens and mark the last answer to be learned.

        Raises:
            RowTooLong: after the cut nothing is left to learn.
            ModelError: there is an audio slot in the answer.
        """
        row = self.expand(conversation.ids, slot_sizes)
        start = len(row) - (len(conversation.ids) - conversation.num_prompt)
        if self.audio_token_id in conversation.ids[conversation.num_prompt :]:
            raise ModelError(f"an answer to learn holds {AUDIO_TOKEN}: put audio into the user's messages")
        if start >= min(len(row), MAX_TRAINING_TOKENS):
            raise RowTooLong(
                f"audio and instruction take {start} of the {MAX_TRAINING_TOKENS} tokens of a training row "
                "and leave none for the answer: leave out recordings of that length (filter.max_duration_s)"
            )
        row = row[:MAX_TRAINING_TOKENS]
        learned = [IGNORED if token == self.hole_id else token for token in row[start:]]
        return TrainingRow(row, [IGNORED] * start + learned)

    @property
    def hole_id(self) -> int | None:
        """The padding token, which is masked wherever it stands, as in the original; None where it ends answers."""
        return None if self.pad_token_id == self.end_token_id else self.pad_token_id

    def num_slots(self, ids: Sequence[int]) -> int:
        """How many audio slots a conversation has."""
        return list(ids).count(self.audio_token_id)

    def expand(self, ids: Sequence[int], slot_sizes: Sequence[int]) -> list[int]:
        """Repeat each `<|AUDIO|>` of `ids` as often as its slot has frames."""
        sizes = iter(slot_sizes)
        repeats = (next(sizes) if token == self.audio_token_id else 1 for token in ids)
        return [token for token, num in zip(ids, repeats, strict=True) for _ in range(num)]

    def decode_answer(self, ids: Sequence[int]) -> str:
        """The text of generated ids, without special tokens, not stripped."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _answer_start(self, ids: Sequence[int]) -> int:
        """Index behind the last assistant header and its newline."""
        header, length = self._header, len(self._header)
        starts = (i for i in range(len(ids) - length, -1, -1) if list(ids[i : i + length]) == header)
        return next(starts) + length + 1

    @cached_property
    def _header(self) -> list[int]:
        return self._encode(f"{START_OF_TURN}assistant", _MARKS[0])

    @cached_property
    def _specials(self) -> set[str]:
        added = self.tokenizer.added_tokens_decoder.values()
        return {token.content for token in added if token.special}

    def _as_text(self, content: str | Sequence[Mapping[str, Any]], mark: str, wrapped: str) -> str:
        """The content as one string, in which no special token that a user wrote is one, save audio slots in a string."""
        if isinstance(content, str):
            return _break(content, self._specials - {AUDIO_TOKEN}, mark)
        parts = (
            wrapped if part["type"] == "audio" else _break(part["text"], self._specials, mark)
            for part in content
        )
        return " ".join(parts)

    def _encode(self, text: str, mark: str) -> list[int]:
        """Token ids of `text`, its parts between marks encoded by themselves."""
        parts = self.tokenizer(text.split(mark), add_special_tokens=False)["input_ids"]
        return [token for part in parts for token in part]


def audios_of(messages: Sequence[Sequence[Message]]) -> list[Any]:
    """The audios of the content parts of conversations, in order: a path, or (samples, sampling rate).

    Raises:
        ModelError: as `AzerosProcessor.encode_inference`.
    """
    for conversation in messages:
        _check_messages(conversation)
    parts = (part for conversation in messages for message in conversation for part in _parts(message))
    return [
        part["path"] if "path" in part else (part["array"], part["sampling_rate"])
        for part in parts
        if part["type"] == "audio"
    ]


def _parts(message: Message) -> Iterator[Mapping[str, Any]]:
    if not isinstance(message["content"], str):
        yield from message["content"]


def texts_of(messages: Sequence[Message]) -> list[str]:
    """All that is written in a conversation, in no order."""
    parts = [part.get("text", "") for message in messages for part in _parts(message)]
    return [*parts, *(message["content"] for message in messages if isinstance(message["content"], str))]


def _break(text: str, tokens: set[str], mark: str) -> str:
    """Put `mark` behind the first character of each of `tokens` in `text`, which hides it from the tokenizer."""
    starts = f"(?={'|'.join(map(re.escape, sorted(tokens)))})(.)"
    return re.sub(starts, rf"\1{mark}", text, flags=re.DOTALL)


def _check_messages(messages: Sequence[Message]) -> None:
    if not messages:
        raise ModelError("a conversation without messages: give at least one of the user's")
    for index, message in enumerate(messages):
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str | list):
            raise ModelError(
                f"message {index} of a conversation lacks role or content: give both, the content as text or a list of parts"
            )
        if message["role"] not in _ROLES:
            given = message["role"]
            raise ModelError(f"message {index} has the role {given!r}: use one of {', '.join(_ROLES)}")
        for number, part in enumerate(_parts(message)):
            if message["role"] != "user" or not _is_part(part):
                raise ModelError(
                    f"message {index}, part {number} is not understood: in user messages give "
                    '{"type": "text", "text": ...}, {"type": "audio", "path": ...} or '
                    '{"type": "audio", "array": ..., "sampling_rate": ...}'
                )


def _is_part(part: Any) -> bool:
    if not isinstance(part, Mapping):
        return False
    kind, given = part.get("type"), part.keys() - {"type"}
    if kind == "text":
        return given == {"text"} and isinstance(part["text"], str)
    return kind == "audio" and given in ({"path"}, {"array", "sampling_rate"})


def _unused_mark(messages: Sequence[Message]) -> str:
    """A character that stands in no message.

    Raises:
        ModelError: there is none.
    """
    text = "".join(texts_of(messages))
    mark = next((mark for mark in _MARKS if mark not in text), None)
    if mark is None:
        raise ModelError("a conversation holds each of the noncharacters U+FDD0 to U+FDEF: take them out")
    return mark


AutoProcessor.register(AzerosConfig, AzerosProcessor)
