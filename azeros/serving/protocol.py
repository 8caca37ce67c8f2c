"""OpenAI's chat completions as data: requests checked and understood, answers written (platform.openai.com/docs/api-reference/chat).

What the service does not do is refused by name, never dropped.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from azeros.errors import AudioError, RequestError
from azeros.serving.ask import Finished
from azeros.serving.audio import Clip, read_base64, read_clip
from azeros.serving.sampling import Sampling
from azeros.serving.talker import SYSTEM_MESSAGE

if TYPE_CHECKING:
    from azeros.model.processing import Message

MAX_MESSAGES = 256
AudioFormat = Literal["wav", "mp3", "flac", "ogg", "opus"]
AUDIO_FORMATS: tuple[str, ...] = get_args(AudioFormat)
SpeechFormat = Literal["wav", "flac", "mp3", "opus", "pcm16"]


def _as_parts(content: Any) -> Any:
    """A string as the part it stands for: the model reads no audio slot in a part, whatever it says."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _as_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else [] if stop is None else stop


_Zero = Annotated[float, Field(ge=0, le=0)]
_StopString = Annotated[str, Field(min_length=1)]
_StopList = Annotated[list[_StopString], Field(max_length=4)]
_Stop = Annotated[_StopList, BeforeValidator(_as_list, json_schema_input_type=_StopString | _StopList | None)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TextPart(_Strict):
    """Text in a message."""

    type: Literal["text"]
    text: str


class InputAudio(_Strict):
    """An audio file; its content says what it is, whatever `format` does."""

    data: str
    """Base64."""
    format: AudioFormat


class AudioPart(_Strict):
    """Audio in a message."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class AudioUrl(_Strict):
    """Where an audio file lies; the service fetches it if its operator allows that."""

    url: str


class AudioUrlPart(_Strict):
    """Audio in a message by its URL: vLLM's, OpenAI has none."""

    type: Literal["audio_url"]
    audio_url: AudioUrl


_Part = Annotated[TextPart | AudioPart | AudioUrlPart, Field(discriminator="type")]
_TextList = Annotated[list[TextPart], Field(min_length=1)]
_PartList = Annotated[list[_Part], Field(min_length=1)]
_Texts = Annotated[_TextList, BeforeValidator(_as_parts, json_schema_input_type=str | _TextList)]
_Parts = Annotated[_PartList, BeforeValidator(_as_parts, json_schema_input_type=str | _PartList)]


class SystemMessage(_Strict):
    """What holds for the whole conversation."""

    role: Literal["system", "developer"]
    content: _Texts


class SpokenAnswer(_Strict):
    """The audio of an earlier answer, as it was sent; its transcript is what is read."""

    id: str
    transcript: str
    data: str | None = None
    expires_at: int | None = None


class AssistantMessage(_Strict):
    """An earlier answer."""

    role: Literal["assistant"]
    content: _Texts | None = None
    audio: SpokenAnswer | None = None
    refusal: None = None

    @model_validator(mode="after")
    def _check_together(self) -> AssistantMessage:
        if (self.content is None) == (self.audio is None):
            raise ValueError("give either content or audio")
        return self


class UserMessage(_Strict):
    """What the user says."""

    role: Literal["user"]
    content: _Parts


_Message = Annotated[SystemMessage | AssistantMessage | UserMessage, Field(discriminator="role")]


class AudioOutput(_Strict):
    """How an answer is to be spoken."""

    voice: str
    format: SpeechFormat


class StreamOptions(_Strict):
    """Of a streamed answer."""

    include_usage: bool = False


class ChatRequest(_Strict):
    """The body of POST /v1/chat/completions; `min_tokens` is not OpenAI's."""

    model: str
    messages: Annotated[list[_Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] = 0
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: _Stop = []
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1)] | None = None
    audio: AudioOutput | None = None
    # What clients send without wanting anything by it.
    n: Literal[1] | None = None
    presence_penalty: _Zero | None = None
    frequency_penalty: _Zero | None = None
    logprobs: Literal[False] | None = None

    @model_validator(mode="after")
    def _check_together(self) -> ChatRequest:
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise ValueError("max_tokens and max_completion_tokens are the same: give one of them")
        if self.min_tokens > self.sampling.max_tokens:
            raise ValueError(f"min_tokens is more than max_tokens, {self.sampling.max_tokens}")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options are for stream: true")
        if ("audio" in (self.modalities or [])) != bool(self.audio):
            raise ValueError('modalities with "audio" and audio go together')
        if self.audio and self.stream:
            raise ValueError("audio comes in one piece: leave stream out")
        return self

    @property
    def sampling(self) -> Sampling:
        """How the answer is to be written; greedy unless the request says otherwise."""
        given = {
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        named = {name: value for name, value in given.items() if value is not None}
        return Sampling(min_tokens=self.min_tokens, seed=self.seed, stop=tuple(self.stop), **named)  # type: ignore[arg-type]

    @property
    def audio_urls(self) -> dict[str, str]:
        """Each URL of audio, and the place where it stands first."""
        places: dict[str, str] = {}
        for index, message in enumerate(self.messages):
            for number, part in enumerate(message.content or ()):
                if isinstance(part, AudioUrlPart):
                    places.setdefault(part.audio_url.url, f"messages.{index}.content.{number}.audio_url")
        return places

    def conversation(
        self, fetched: Mapping[str, bytearray], max_audio_s: float, max_conversation_s: float
    ) -> tuple[list[Message], list[Clip]]:
        """The messages as the model takes them, and their clips in order.

        Args:
            fetched: the audio file at each of `audio_urls`.
            max_audio_s: of one clip.
            max_conversation_s: of all of them; no more are decoded.

        Raises:
            RequestError: an audio cannot be used, or there is too much of it; its place is named.
        """
        heard_s = 0.0
        messages: list[Message] = []
        clips: list[Clip] = []
        if self.audio:
            messages.append({"role": "system", "content": SYSTEM_MESSAGE})
        for index, message in enumerate(self.messages):
            if not isinstance(message, UserMessage):
                messages.append(_of_text(message))
                continue
            parts: list[dict[str, Any]] = []
            for number, part in enumerate(message.content):
                if isinstance(part, TextPart):
                    parts.append({"type": "text", "text": part.text})
                    continue
                where = f"messages.{index}.content.{number}.{part.type}"
                try:
                    if isinstance(part, AudioUrlPart):
                        clip = read_clip(bytes(fetched[part.audio_url.url]), max_audio_s)
                    else:
                        clip = read_base64(part.input_audio.data, max_audio_s)
                except AudioError as error:
                    raise RequestError(f"{where}: {error}", "invalid_audio", where) from error
                heard_s += clip.duration_s
                if heard_s > max_conversation_s:
                    raise RequestError(
                        f"{where}: with it the conversation has more than {max_conversation_s:.0f} s of audio, ask about less",
                        "context_length_exceeded",
                        where,
                    )
                clips.append(clip)
                parts.append(clip.part())
            messages.append({"role": "user", "content": parts})
        return messages, clips


def _of_text(message: SystemMessage | AssistantMessage) -> Message:
    if isinstance(message, AssistantMessage) and message.audio:
        return {"role": "assistant", "content": message.audio.transcript}
    text = " ".join(part.text for part in message.content or ())
    return {"role": "assistant" if message.role == "assistant" else "system", "content": text}


def read_chat_request(body: bytes) -> ChatRequest:
    """The request in a body.

    Raises:
        RequestError: not JSON, or a field is missing, unknown or wrong.
    """
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        where = ".".join(_path(first["loc"]))
        message = f"{where}: {first['msg']}" if where else first["msg"]
        code = "unknown_parameter" if first["type"] == "extra_forbidden" else "invalid_value"
        raise RequestError(message, code, where or None) from None


def _path(loc: Sequence[str | int]) -> list[str]:
    """The keys to a place, without the tag that pydantic puts behind the index of a message or a part."""
    follows = zip(loc, [None, *loc], strict=False)
    return [str(key) for key, before in follows if isinstance(key, int) or not isinstance(before, int)]


class Completion:
    """What is sent back for one request."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, text: str, finished: Finished, spoken: tuple[str, bytes] | None = None) -> dict[str, Any]:
        """The answer in one piece; `spoken` as a transcript and a file."""
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if spoken:
            transcript, file = spoken
            message |= {
                "content": None,
                "audio": {
                    "id": f"audio_{uuid.uuid4().hex}",
                    "data": base64.b64encode(file).decode(),
                    "transcript": transcript,
                    "expires_at": self._head["created"],  # nothing is kept
                },
            }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finished.reason}
        return self._head | {"object": "chat.completion", "choices": [choice], "usage": _usage(finished)}

    def chunk(self, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        """A piece of a streamed answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._head | {"object": "chat.completion.chunk", "choices": [choice]}

    def usage_chunk(self, finished: Finished) -> dict[str, Any]:
        """The last piece of a streamed answer, for those who want it."""
        return self._head | {"object": "chat.completion.chunk", "choices": [], "usage": _usage(finished)}


def _usage(finished: Finished) -> dict[str, Any]:
    prompt, new = finished.num_prompt_tokens, finished.num_new_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"audio_tokens": finished.num_audio_tokens},
    }
