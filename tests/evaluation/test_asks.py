"""What is asked, and how answers count."""

from pathlib import Path

import pytest
from lhotse import MonoCut, SupervisionSegment

from azeros.errors import ParamsError
from azeros.evaluation.asks import Ask, asks_of, score
from azeros.params import load_params

SETTINGS = load_params(Path(__file__).parents[2] / "params.yaml").evaluate


def cut(language: str = "en") -> MonoCut:
    question = {"kind": "topic", "instruction": "what is the topic?", "reply": "home."}
    said = SupervisionSegment(
        "c", "c", 0.0, 1.0, text="Turn ON", language=language, gender="male", custom={"questions": [question]}
    )
    return MonoCut("c", 0.0, 1.0, channel=0, supervisions=[said])


def test_unknown_attributes_are_not_asked() -> None:
    assert [ask.kind for ask in asks_of(cut(), SETTINGS)] == ["plain", "repeat", "gender", "topic"]


def test_a_language_without_instructions_is_named() -> None:
    with pytest.raises(ParamsError, match=r"evaluate\.instructions.*'xx'"):
        asks_of(cut("xx"), SETTINGS)


def test_each_kind_has_its_own_measure() -> None:
    asks = asks_of(cut(), SETTINGS)
    text = dict.fromkeys(asks, "the oven is on.")
    answers = dict(zip(asks, ["the oven is on.", "turn off", "Male", "kitchen."], strict=True))
    figures = {kind: figure.value for kind, figure in score(asks, answers, text).items()}
    assert figures == {"plain": 1.0, "repeat": 0.0, "gender": 1.0, "topic": 0.0, "repeat_wer": 0.5}


def test_of_a_choice_the_word_counts_by_itself_too() -> None:
    ask = Ask("choice", "c", "which word was said? a. on b. off", "turn on", "on, a.")
    figures = score([ask], {ask: "on, b."}, {ask: "on, a."})
    assert (figures["choice"].value, figures["choice_word"].value) == (0.0, 1.0)
