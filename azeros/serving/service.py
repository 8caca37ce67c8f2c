"""A model that answers many conversations at a time, whatever brings them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from azeros.data.audio import SAMPLING_RATE
from azeros.errors import RequestError
from azeros.serving import chat
from azeros.serving.ask import Ask, Event, Finished, Piece
from azeros.serving.audio import Clip, read_clip
from azeros.serving.engine import Engine
from azeros.serving.observer import Observer
from azeros.serving.protocol import AUDIO_FORMATS, MAX_MESSAGES, AudioOutput, ChatRequest, read_chat_request
from azeros.serving.remote import Remote
from azeros.serving.sampling import Sampling
from azeros.serving.settings import ServingSettings
from azeros.serving.talker import FORMATS, make, speech

if TYPE_CHECKING:
    from azeros.model.processing import Message

# Each may hold a quarter of a gigabyte of decoded audio.
_NUM_READERS = 2
# Nobody reads faster, and telling each token by itself would take as long as writing it.
_BETWEEN_PIECES_S = 0.04


@dataclass(frozen=True)
class Conversation:
    """What an answer is wanted to."""

    messages: Sequence[Message]
    """Audio as content parts."""
    clips: Sequence[Clip]
    """Those of the parts, in order."""
    sampling: Sampling


class ChatService:
    """Reads requests in threads of its own and answers them with an engine.

    Attributes:
        model_id: what requests call the model.
    """

    def __init__(self, settings: ServingSettings, observer: Observer | None = None) -> None:
        """Load the model and answer once with it, so that the first request finds it warm.

        Raises:
            ModelError: the model is missing or damaged.
            ParamsError: the talker of the settings is not there.
        """
        source = settings.model or chat.PACKAGED
        self.model_id = settings.model_name
        self._created = int(time.time())
        self._engine = Engine(chat.load(source, settings.revision, settings.dtype), settings, observer)
        self._readers = ThreadPoolExecutor(_NUM_READERS, "azeros reader")
        self._remote = Remote(settings)
        self._talker = make(settings)
        self._speaking = ThreadPoolExecutor(1, "azeros talker")
        self._warm_up()

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""
        return self._engine.is_alive

    def check_room(self) -> None:
        """Say, before a request is read, that it would not be taken.

        Raises:
            OverloadError: there is no room for it.
        """
        self._engine.check_room()

    def card(self) -> dict[str, Any]:
        """The model as /v1/models shows it, with what it takes at most."""
        limits = {
            "max_audio_s": self._engine.max_audio_s,
            "max_conversation_audio_s": self._engine.max_conversation_s,
            "max_context_tokens": self._engine.max_tokens,
            "max_messages": MAX_MESSAGES,
            "default_max_tokens": Sampling().max_tokens,
            "max_audio_urls": self._remote.max_urls,
            "audio_formats": AUDIO_FORMATS,
            "voices": self._talker.voices,
            "speech_formats": list(FORMATS),
        }
        head = {"id": self.model_id, "object": "model", "created": self._created, "owned_by": "azeros"}
        return head | {"limits": limits}

    def check_model(self, name: str) -> None:
        """Raise RequestError unless `name` is the model's."""
        if name != self.model_id:
            raise RequestError(
                f"there is no model {name!r} here: ask for {self.model_id!r}", "model_not_found", "model"
            )

    async def read_chat(self, body: bytes) -> tuple[ChatRequest, Conversation]:
        """The request in the body of a chat completion.

        Raises:
            RequestError: it is not one, or is for another model, or its audio cannot be used or fetched.
            OverloadError: too much is being fetched.
        """
        request = await self._in_reader(self._read_request, body)
        async with self._remote.fetched(request.audio_urls) as fetched:
            limits = (self._engine.max_audio_s, self._engine.max_conversation_s)
            messages, clips = await self._in_reader(request.conversation, fetched, *limits)
        return request, Conversation(messages, clips, request.sampling)

    def _read_request(self, body: bytes) -> ChatRequest:
        request = read_chat_request(body)
        self.check_model(request.model)
        if request.audio:
            self._check_voice(request.audio.voice)
        return request

    def _check_voice(self, name: str) -> None:
        if name not in (voices := self._talker.voices):
            has = (
                f"ask for one of {', '.join(voices)}"
                if voices
                else "pip install espeakng-loader gives it some"
            )
            raise RequestError(
                f"audio.voice: there is no voice {name!r} here: {has}", "invalid_value", "audio.voice"
            )

    async def spoken(self, answer: str, audio: AudioOutput) -> tuple[str, bytes]:
        """The transcript and the file of an answer that a request wants spoken."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._speaking, speech, self._talker, answer, audio.voice, audio.format
        )

    async def read_file(self, path: Path, prompt: str, sampling: Sampling) -> Conversation:
        """A question about an audio file; without one, the file speaks for itself.

        Raises:
            AudioError: the file cannot be used.
        """
        clip = await self._in_reader(lambda: read_clip(path.read_bytes(), self._engine.max_audio_s))
        return _about(clip, prompt, sampling)

    async def answer(self, conversation: Conversation) -> AsyncGenerator[Piece | Finished]:
        """The pieces of the answer as they are written, then Finished. Closing the generator cancels the request.

        Raises:
            AzerosError: the request cannot be answered (see `Engine.submit`), or there is no room for it.
        """
        loop = asyncio.get_running_loop()
        events: deque[Event] = deque()
        told = asyncio.Event()

        def deliver(event: Event) -> None:
            events.append(event)
            if len(events) == 1:
                with suppress(RuntimeError):  # the loop is closed, and nobody listens any more
                    loop.call_soon_threadsafe(told.set)

        ask = Ask(conversation.messages, conversation.clips, conversation.sampling, deliver)
        try:
            await self._in_reader(self._engine.submit, ask)
            while True:
                await told.wait()
                told.clear()
                text, last = _taken(events)
                if text:
                    yield Piece(text)
                if isinstance(last, Exception):
                    raise last
                if last:
                    yield last
                    return
                await asyncio.sleep(_BETWEEN_PIECES_S)
        finally:
            ask.cancel()
            last = None  # an error that was raised knows this frame: no circle, which would keep the clips

    async def whole_answer(self, conversation: Conversation) -> tuple[str, Finished]:
        """The text of the answer, once it is complete; raises as `answer`."""
        text = ""
        async for event in self.answer(conversation):
            if isinstance(event, Finished):
                return text, event
            text += event.text
        raise AssertionError("an answer ends with Finished or an error")

    def close(self) -> None:
        """Take no more requests, and answer those that were taken."""
        self._engine.close()
        self._readers.shutdown()
        self._speaking.shutdown()

    def _warm_up(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, SAMPLING_RATE).astype(np.float32)
        asked = _about(Clip("warm-up", noise), "", Sampling(max_tokens=4, min_tokens=4))
        events: SimpleQueue[Event] = SimpleQueue()
        self._engine.submit(Ask(asked.messages, asked.clips, asked.sampling, events.put))
        while not isinstance(event := events.get(), Finished):
            if isinstance(event, Exception):
                raise event

    async def _in_reader(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *args)


def _taken(events: deque[Event]) -> tuple[str, Finished | Exception | None]:
    """Takes all of `events`: their text, and the event that ends the answer if it is among them."""
    text = ""
    while events:
        event = events.popleft()
        if not isinstance(event, Piece):
            return text, event
        text += event.text
    return text, None


def _about(clip: Clip, prompt: str, sampling: Sampling) -> Conversation:
    parts: list[dict[str, Any]] = [clip.part()]
    if prompt:
        parts.append({"type": "text", "text": prompt})
    return Conversation([{"role": "user", "content": parts}], [clip], sampling)
