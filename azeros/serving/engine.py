"""Requests to streamed answers: those that wait are encoded together, those that run are written together.

One thread owns the model. In each turn of its loop it lets in what waits, as far as there is room, and takes the
language model one token further in every answer, so requests join and leave a running batch (azeros.serving.batch).
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from azeros.errors import AzerosError, OverloadError, RequestError
from azeros.model.config import AUDIO_TOKEN
from azeros.model.embedding import embed_rows
from azeros.model.encoding import FRAMES_PER_S
from azeros.model.processing import texts_of
from azeros.serving.ask import Ask
from azeros.serving.audio import AudioCache, Clip
from azeros.serving.batch import Batch
from azeros.serving.observer import Observer
from azeros.serving.sampling import choose
from azeros.serving.settings import MB, ServingSettings

if TYPE_CHECKING:
    from torch import Tensor

    from azeros.model.speech_llm import AZerosModel

_log = logging.getLogger(__name__)

# How much audio is encoded before the answers that run get their next token. A GPU gains much by encoding it together; a
# CPU a little, and there first tokens need not wait for each other.
_AT_ONCE_ON_CPU_S, _AT_ONCE_S = 4.0, 200.0  # for each thread that encodes
# Characters that are made tokens of at once where there is much text, and tokens that a cut through it may add.
_PIECE, _SEAM = 2**16, 16


class Engine:
    """Answers requests with a model, many at a time.

    Attributes:
        max_tokens: positions of the language model, for a conversation with its audio and its answer.
        max_audio_s: longest clip in seconds.
        max_conversation_s: seconds of audio beyond which no conversation fits into `max_tokens`.
    """

    def __init__(
        self, model: AZerosModel, settings: ServingSettings, observer: Observer | None = None
    ) -> None:
        self.max_tokens: int = model.llm.config.get_text_config().max_position_embeddings
        self.max_audio_s: float = model.config.max_audio_s
        tokens_per_s = sum(
            FRAMES_PER_S / encoder.stride / getattr(model, f"{branch}_encoder_projector").rate
            for branch, encoder in model.encoders().items()
        )
        self.max_conversation_s: float = self.max_tokens / tokens_per_s
        self._model = model
        self._max_batch_size = settings.max_batch_size
        self._max_queue_size = settings.max_queue_size
        on_cpu = model.device.type == "cpu"
        self._num_encoders = max((os.cpu_count() or 1) // torch.get_num_threads(), 1) if on_cpu else 1
        self._encoders = ThreadPoolExecutor(self._num_encoders, "azeros encoder")
        self._encoded_at_once_s = self._num_encoders * (_AT_ONCE_ON_CPU_S if on_cpu else _AT_ONCE_S)
        self._slots_each = model.audio_token_wrapped.count(AUDIO_TOKEN)
        self._observer = observer or Observer()
        self._cache = AudioCache(settings.audio_cache_mb * MB)
        self._batch = Batch(model.llm)
        self._running: list[Ask] = []  # in the order of the batch's rows
        self._waiting: deque[Ask] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="azeros engine", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive()

    def check_room(self) -> None:
        """Say, before a request is read, that it would not be taken.

        Raises:
            OverloadError: as many wait as may, or the engine is closing.
        """
        if self._is_closing:
            raise OverloadError("the service is stopping: ask again a little later")
        if (waiting := len(self._waiting)) >= self._max_queue_size:
            raise OverloadError(f"{waiting} requests are waiting already: ask again a little later")

    def submit(self, ask: Ask) -> None:
        """Answer a request as soon as there is room.

        Raises:
            OverloadError: as `check_room`.
            ModelError: a message is malformed, or the language model's chat template refuses the conversation.
            RequestError: the conversation is longer than the language model takes, even without its audio, or has not
                one slot for a clip.
        """
        self._check_text(ask)
        ask.ids = self._model.processor.encode_inference(ask.messages, self._model.audio_token_wrapped)
        slots = self._model.processor.num_slots(ask.ids)
        if slots != len(ask.clips) * self._slots_each:
            raise RequestError(f"{slots} audio slots for {len(ask.clips)} clips: leave {AUDIO_TOKEN} out")
        self._check_length(ask)
        with self._changed:
            self.check_room()
            self._waiting.append(ask)
            self._observer.on_queue(len(self._waiting))
            self._changed.notify()

    def close(self) -> None:
        """Take no more requests, answer those that were taken, and stop."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()
        self._encoders.shutdown()

    def _check_text(self, ask: Ask) -> None:
        """Refuse text of megabytes before all of it is made tokens of."""
        texts = texts_of(ask.messages)
        pieces = [text[at : at + _PIECE] for text in texts for at in range(0, len(text), _PIECE)]
        room = self.max_tokens
        for piece in pieces if len(pieces) > len(texts) else ():
            room -= max(len(self._model.tokenizer(piece, add_special_tokens=False)["input_ids"]) - _SEAM, 0)
            if room < 0:
                raise RequestError(
                    f"the messages have more text than the {self.max_tokens} tokens that the language model takes; ask for less",
                    "context_length_exceeded",
                    "messages",
                )

    def _check_length(self, ask: Ask) -> None:
        if len(ask.ids) + ask.sampling.max_tokens > self.max_tokens:
            raise RequestError(
                f"a conversation of {len(ask.ids)} tokens, those of its audio among them, and max_tokens "
                f"{ask.sampling.max_tokens} are more than the {self.max_tokens} that the language model takes; "
                "ask for less",
                "context_length_exceeded",
                "messages",
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._running or self._is_closing)
                if not (self._waiting or self._running):
                    return
                entering = self._next_in()
            try:
                if entering:
                    self._let_in(entering)
                if self._running:
                    self._go_on()
            except Exception as error:  # of what runs nothing can be trusted any more
                self._fail([ask for ask in {*self._running, *entering} if not ask.is_over], error)
                self._let_out()

    def _next_in(self) -> list[Ask]:
        """Take out of the queue what nobody wants any more, and what there is room for, up to an amount of audio."""
        for ask in [ask for ask in self._waiting if ask.is_cancelled]:
            self._waiting.remove(ask)
            self._drop(ask)
        asks: list[Ask] = []
        room = self._max_batch_size - len(self._running)
        audio_s = 0.0
        while self._waiting and len(asks) < room and audio_s < self._encoded_at_once_s:
            ask = self._waiting.popleft()
            audio_s += sum(clip.duration_s for clip in ask.clips if self._cache.get(clip.key) is None)
            asks.append(ask)
        self._observer.on_queue(len(self._waiting))
        return asks

    def _let_in(self, asks: list[Ask]) -> None:
        """Encode the audio of requests and write the first token of each answer."""
        heard = self._hear(asks)
        asks = [ask for ask in asks if not ask.is_over]
        if not asks:
            return
        ids = [ask.ids for ask in asks]
        frames = [slot for ask in asks for clip in ask.clips for slot in heard[clip.key]]
        try:
            inputs = embed_rows(self._model.llm, ids, frames, self._model.processor, "left")
            scores = self._batch.join(*inputs)
        except Exception as error:  # out of memory, above all
            self._fail(asks, error)
            return
        self._running += asks
        self._write(asks, scores)

    def _hear(self, asks: list[Ask]) -> dict[str, list[Tensor]]:
        """Frames (n, d) of the slots of all clips by key; requests fail whose clips cannot be encoded."""
        clips = {clip.key: clip for ask in asks for clip in ask.clips}
        heard = {key: slots for key in clips if (slots := self._cache.get(key)) is not None}
        new = [clip for key, clip in clips.items() if key not in heard]
        wrong: dict[str, Exception] = {}
        try:
            heard |= self._encode(new)
        except Exception:
            for clip in new:  # each by itself, to find which it is
                try:
                    heard |= self._encode([clip])
                except Exception as error:
                    wrong[clip.key] = error
        encoded = [clip for clip in new if clip.key in heard]
        for clip in encoded:
            self._cache.put(clip.key, heard[clip.key])
        self._observer.on_clips(len(clips) - len(new), len(encoded), sum(clip.duration_s for clip in encoded))
        for ask in asks:
            failed = next((wrong[clip.key] for clip in ask.clips if clip.key in wrong), None)
            try:
                if failed:
                    raise failed
                sizes = [len(slot) for clip in ask.clips for slot in heard[clip.key]]
                ask.fill(self._model.processor, sizes)
                self._check_length(ask)
            except Exception as error:
                self._fail([ask], error)
        return heard

    def _encode(self, clips: list[Clip]) -> dict[str, list[Tensor]]:
        """By key the frames of each clip's slots; clips of like length share a batch (see `by_length`)."""
        ordered = sorted(clips, key=lambda clip: clip.duration_s)
        shares = [ordered[i :: self._num_encoders] for i in range(min(self._num_encoders, len(clips)))]
        encoded = self._encoders.map(self._encode_share, shares)
        return {key: slots for share in encoded for key, slots in share.items()}

    @torch.no_grad()
    def _encode_share(self, clips: list[Clip]) -> dict[str, list[Tensor]]:
        encoded = self._model.encode_audios([clip.samples for clip in clips], by_length=True)
        slots = self._model.project(encoded)
        each = self._slots_each
        return {clip.key: slots[each * i : each * (i + 1)] for i, clip in enumerate(clips)}

    def _go_on(self) -> None:
        """Write the next token of each answer."""
        scores = self._batch.step([ask.new_ids[-1] for ask in self._running])
        self._observer.on_step(len(self._running))
        self._write(self._running, scores)

    def _write(self, asks: list[Ask], scores: Tensor) -> None:
        """Choose a token for each of `asks` from scores (B, V), and let out whose answer has ended."""
        end = self._model.processor.end_token_id
        for row, ask in enumerate(asks):
            if len(ask.new_ids) < ask.sampling.min_tokens:
                scores[row, end] = float("-inf")
        tokens = choose(scores, [ask.sampling for ask in asks], [ask.generator for ask in asks])
        for ask, token in zip(asks, tokens, strict=True):
            if ask.is_cancelled:
                self._drop(ask)
                continue
            outcome = ask.append(token, token == end)
            if len(ask.new_ids) == 1:
                self._observer.on_first_token(ask.waited_s)
            if outcome:
                self._observer.on_end(outcome, len(ask.new_ids), ask.wrote_s)
        self._let_out()

    def _drop(self, ask: Ask) -> None:
        ask.is_over = True
        self._observer.on_end("cancelled", len(ask.new_ids), ask.wrote_s)

    def _fail(self, asks: list[Ask], error: Exception) -> None:
        if not isinstance(error, AzerosError):
            _log.error("requests failed", exc_info=error)
        for ask in asks:
            ask.fail(error)
            self._observer.on_end("failed", len(ask.new_ids), ask.wrote_s)

    def _let_out(self) -> None:
        kept = [row for row, ask in enumerate(self._running) if not ask.is_over]
        if len(kept) < len(self._running):
            self._batch.keep(kept)
            self._running = [self._running[row] for row in kept]
