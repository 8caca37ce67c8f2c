"""Which responses are of no use as targets: only what params.yaml, sift.unusable, says."""

from __future__ import annotations

from azeros.params import Unusable
from azeros.sift.answers import TRUNCATED


def unusable(response: str, settings: Unusable) -> str | None:
    """Why a response must not become a target, or None."""
    text = response.removesuffix(TRUNCATED).strip()
    if settings.empty and not text:
        return "empty response"
    if settings.max_repeats and num_repeats(text) > settings.max_repeats:
        return "response that loops"
    if text.casefold().startswith(tuple(start.casefold() for start in settings.refusals)):
        return "response that refuses"
    return None


def num_repeats(text: str) -> float:
    """How often `text` says at its end the same piece in a row, 1 if it does not: a model that loops does not stop.

    Linear in the length of `text`: its last n characters have the period n - border(n), where the border is the
    longest proper prefix of the reversed text's first n characters that is also their suffix (Knuth, Morris, Pratt).
    """
    backward = text[::-1]
    border, most = [0] * len(backward), 1.0
    for end in range(1, len(backward)):
        length = border[end - 1]
        while length and backward[length] != backward[end]:
            length = border[length - 1]
        border[end] = length + (backward[length] == backward[end])
        most = max(most, (end + 1) / (end + 1 - border[end]))
    return most
