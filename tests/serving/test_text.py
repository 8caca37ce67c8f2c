"""Pieces of an answer together are the answer, whatever its characters."""

import pytest

from azeros.model.speech_llm import AZerosModel
from azeros.serving.text import AnswerText

TEXTS = ["Hello, world! it's  two   spaces", "naïve café — 你好，世界 🎉👩‍👩‍👧", "a\n\nb\tc ", "�", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_decoded_answer(tiny_model: AZerosModel, text: str) -> None:
    processor = tiny_model.processor
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    written = AnswerText(processor.decode_answer)
    pieces = [written.push(token) for token in ids]
    assert not any("�" in piece for piece in pieces) or "�" in text
    assert "".join(pieces) + written.finish() == processor.decode_answer(ids) == text


@pytest.mark.parametrize(
    ("stop", "wanted"),
    [
        (["lo w"], "hel"),
        (["x", "world"], "hello "),
        (["orx"], "hello world"),
        (["d!"], "hello world"),
        (["h"], ""),
    ],
)
def test_nothing_behind_a_stop_string_is_said(stop: list[str], wanted: str) -> None:
    characters = "hello world"
    written = AnswerText(lambda ids: "".join(characters[token] for token in ids), stop)
    text = ""
    for token in range(len(characters)):
        text += written.push(token)
        if written.is_stopped:
            break
        assert wanted.startswith(text)
    assert text + ("" if written.is_stopped else written.finish()) == wanted
    assert written.is_stopped == (wanted != characters)
