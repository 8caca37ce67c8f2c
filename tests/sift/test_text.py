"""Transcripts are normalised as the reference does."""

import json
from pathlib import Path

import pytest

from azeros.sift.text import normalize

_OPTIONS = {"case": "lower", "remove_symbols": False, "simplified_chinese": True}


def test_equals_the_reference(golden: Path) -> None:
    rows = json.loads((golden / "sift" / "text_normalization.json").read_text())
    rows = [row for row in rows if row["options"] == _OPTIONS]
    assert len(rows) == 20
    for row in rows:
        assert normalize(row["text"]) == row["out"]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" Two\t WORDS\n", "two words"),
        ("你 好 ， 世 界", "你好，世界"),
        ("说ok吧", "说ok 吧"),
        ("ok 吧", "ok 吧"),
        ("軟體", "软件"),
        ("[laughs] Hi <b>", "[laughs] hi <b>"),
        (" \n", ""),
    ],
)
def test_rules(text: str, normal: str) -> None:
    assert normalize(text) == normal
    assert normalize(normal) == normal
