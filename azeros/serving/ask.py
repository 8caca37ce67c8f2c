"""One request and its answer while it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from azeros.serving.audio import Clip
from azeros.serving.sampling import Sampling
from azeros.serving.text import AnswerText

if TYPE_CHECKING:
    from azeros.model.processing import AzerosProcessor, Message


@dataclass(frozen=True)
class Piece:
    """A part of an answer's text."""

    text: str


@dataclass(frozen=True)
class Finished:
    """An answer is complete."""

    reason: Literal["stop", "length"]
    """The model or a stop string ended it, or max_tokens did."""
    num_prompt_tokens: int
    """Those of the audio among them."""
    num_audio_tokens: int
    num_new_tokens: int


Event = Piece | Finished | Exception
"""What is told about a request; the last is Finished or an error."""


class Ask:
    """A request, from when it is made to when its answer has ended.

    Attributes:
        clips: the recordings of its messages, in order.
        sampling: how the answer is written.
        generator: what its draws come from.
        ids: tokens of the conversation; an audio slot is one of them until the audio is encoded.
        num_audio_tokens: how many of `ids` are audio.
        new_ids: tokens of the answer so far.
        is_cancelled: nobody wants the answer any more.
        is_over: the answer has ended, or will not come.
    """

    def __init__(
        self,
        messages: Sequence[Message],
        clips: Sequence[Clip],
        sampling: Sampling,
        deliver: Callable[[Event], None],
    ) -> None:
        """Make a request for `Engine.submit`.

        Args:
            messages: the conversation, audio as content parts.
            clips: as above.
            sampling: as above.
            deliver: called by the engine's thread with each event; must return at once.
        """
        self.messages = messages
        self.clips = clips
        self.sampling = sampling
        self.generator = sampling.generator()
        self.ids: list[int] = []
        self.num_audio_tokens = 0
        self.new_ids: list[int] = []
        self.is_cancelled = False
        self.is_over = False
        self._deliver = deliver
        self._text: AnswerText | None = None
        self._made_s = self._began_s = time.monotonic()

    def cancel(self) -> None:
        """Want no answer any more; its place goes to another request."""
        self.is_cancelled = True

    def fill(self, processor: AzerosProcessor, slot_sizes: Sequence[int]) -> None:
        """Give each audio slot in `ids` as many tokens as it has frames."""
        self.ids = processor.expand(self.ids, slot_sizes)
        self.num_audio_tokens = sum(slot_sizes)
        self._text = AnswerText(processor.decode_answer, self.sampling.stop)

    def append(self, token: int, is_end: bool) -> str | None:
        """Add a token to the answer, and tell its text; why the answer ends with it, if it does."""
        assert self._text is not None
        if not self.new_ids:
            self._began_s = time.monotonic()
        self.new_ids.append(token)
        is_last = len(self.new_ids) == self.sampling.max_tokens
        text = "" if is_end else self._text.push(token)
        if (is_end or is_last) and not self._text.is_stopped:
            text += self._text.finish()
        if text:
            self._deliver(Piece(text))
        if is_end or self._text.is_stopped:
            return self._finish("stop")
        return self._finish("length") if is_last else None

    def _finish(self, reason: Literal["stop", "length"]) -> str:
        self.is_over = True
        self._deliver(Finished(reason, len(self.ids), self.num_audio_tokens, len(self.new_ids)))
        return reason

    def fail(self, error: Exception) -> None:
        """End without the whole answer."""
        self.is_over = True
        self._deliver(error)

    @property
    def waited_s(self) -> float:
        """Seconds from the request to the first token."""
        return self._began_s - self._made_s

    @property
    def wrote_s(self) -> float:
        """Seconds since the first token."""
        return time.monotonic() - self._began_s
