"""The text of an answer while it is written: whole characters, and nothing behind a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_INCOMPLETE = "�"  # what a tokenizer decodes a part of a character to


class AnswerText:
    """Token by token to text; the pieces together are the decoded answer, up to its first stop string.

    Attributes:
        is_stopped: a stop string was met; no more text comes.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self.is_stopped = False
        self._decode = decode
        self._stop = stop
        self._ids: list[int] = []
        # What a token decodes to depends on the one before it: these are decoded again with what follows.
        self._start = 0
        self._known = ""
        self._held = ""  # may be the beginning of a stop string

    def push(self, token: int) -> str:
        """The text that is certain with one more token; often none."""
        self._ids.append(token)
        text = self._decode(self._ids[self._start :])
        if text.endswith(_INCOMPLETE):
            return ""
        new = text[len(self._known) :]
        self._start = len(self._ids) - 1
        self._known = self._decode(self._ids[self._start :])
        if not text.endswith(self._known):  # the token is not to be read by itself
            self._start = 0
            self._known = self._decode(self._ids)
        return self._release(new)

    def finish(self) -> str:
        """What is left when no more tokens come."""
        rest = self._release(self._decode(self._ids[self._start :])[len(self._known) :])
        return rest if self.is_stopped else rest + self._held

    def _release(self, new: str) -> str:
        text = self._held + new
        found = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        if found:
            self.is_stopped = True
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
