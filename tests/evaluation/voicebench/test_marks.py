"""Marks go, and white space only with them."""

import pytest

from azeros.evaluation.voicebench.marks import without_first, without_last


@pytest.mark.parametrize(
    ("text", "kept"),
    [("<1> a ", "a"), ("a <|user|>", "a"), (" a ", " a "), ("<4>a", "<4>a"), ("<3>a<|user|>", "a")],
)
def test_marks_are_stripped(text: str, kept: str) -> None:
    assert without_last(without_first(text)) == without_first(without_last(text)) == kept
