"""Transcripts as the language model is shown them."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# CJK punctuation, kana, ideographs, Hangul, compatibility ideographs, full-width forms.
_CJK = r"\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_SPACE_IN_CJK = re.compile(f"(?<=[{_CJK}]) (?=[{_CJK}])")
_BEFORE_CJK = re.compile(rf"(?<=[^\s{_CJK}])(?=[{_CJK}])")


def normalize(text: str) -> str:
    """Lower case, single spaces, simplified Chinese; brackets and what is in them stay.

    No space stands between CJK characters, and one before CJK that follows other text.
    """
    text = " ".join(text.lower().split())
    if text.isascii():
        return text
    text = _SPACE_IN_CJK.sub("", text)
    text = _BEFORE_CJK.sub(" ", text)
    return _convert()(text, "zh-cn")


@cache
def _convert() -> Callable[[str, str], str]:
    import zhconv

    with warnings.catch_warnings():
        # Its first call leaves the file of its tables to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        zhconv.convert("", "zh-cn")
    convert: Callable[[str, str], str] = zhconv.convert
    return convert
