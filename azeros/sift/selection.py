"""Which cuts the language model is asked about, and why not the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from azeros.data.manifests import supervision_of, unfit
from azeros.params import Mode, Params, TranscriptMode
from azeros.sift.profile import LLMProfile
from azeros.sift.prompts import Prompt, render

if TYPE_CHECKING:
    from lhotse.cut import Cut


@dataclass(frozen=True)
class Rejected:
    """A cut that gets no target."""

    id: str
    reason: str
    detail: str


def select(cut: Cut, mode: Mode | TranscriptMode, params: Params, profile: LLMProfile) -> Prompt | Rejected:
    """The prompt of a cut, or why the language model is not asked about it.

    Raises:
        ManifestError: the cut is not one utterance.
        ParamsError: there is no instruction in its language.
        ModelError: the language model's chat template refuses the conversation.
    """
    supervision = supervision_of(cut)
    text = supervision.text or ""
    if not is_text(text):
        return Rejected(cut.id, "text that is no text", ascii(text))
    reason = unfit(cut.duration, text, params.filter, strict=True)
    if reason:
        return Rejected(cut.id, reason, f"{cut.duration:.2f} s, {len(text)} characters")
    prompt = render(mode, supervision, params.sift, profile.chat.prompt)
    token = profile.special_token_in(prompt.input_text)
    if token:
        return Rejected(cut.id, "special token in the text", f"{token} in {prompt.input_text!r}")
    # A token stands for one byte at least, so short prompts need no counting.
    room = profile.context_tokens and profile.context_tokens - params.sift.max_new_tokens
    if room is not None and len(prompt.prompt.encode()) > room:
        (ids,) = profile.encode([prompt.prompt])
        if len(ids) > room:
            return Rejected(cut.id, "prompt longer than the language model's context", f"{len(ids)} tokens")
    return prompt


def is_text(value: object) -> bool:
    """Whether it is a string without halves of characters, which JSON can hold and UTF-8 cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
