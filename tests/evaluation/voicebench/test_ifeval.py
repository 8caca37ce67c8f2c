"""Prompts, instructions and readings, counted by hand."""

import random
from typing import Any

import pytest

from azeros.evaluation.voicebench import ifeval
from tests.evaluation.rows import response


def row(answer: str, *instructions: tuple[str, dict[str, Any]], prompt: str = "p") -> Any:
    ids = [name for name, _ in instructions]
    kwargs = [{"num_words": None, "keywords": [], **arguments} for _, arguments in instructions]
    return response(prompt=prompt, instruction_id_list=ids, kwargs=kwargs, response=answer)


NO_COMMA: tuple[str, dict[str, Any]] = ("punctuation:no_comma", {})
QUOTED: tuple[str, dict[str, Any]] = ("startend:quotation", {})


def test_a_loose_reading_forgives_first_and_last_lines_and_asterisks() -> None:
    (item,) = ifeval.score([row('Sure, here:\n*"a"*\nBye', NO_COMMA, QUOTED)], seed=0)
    assert item.fields == {"strict": [False, False], "loose": [True, True]}
    assert item.official == item.strict == ((0.0, 1.0), (0.0, 2.0), (1.0, 1.0), (2.0, 2.0))


def test_there_are_eight_readings() -> None:
    assert list(ifeval.loose_variants("a\n*b*\nc")) == [
        "a\n*b*\nc", "a\nb\nc", "*b*\nc", "b\nc", "a\n*b*", "a\nb", "*b*", "b",
    ]  # fmt: skip


def test_an_empty_response_follows_nothing() -> None:
    (item,) = ifeval.score([row(" \n", NO_COMMA)], seed=0)
    assert item.fields == {"strict": [False], "loose": [False]}


def test_rows_with_one_prompt_share_the_last_response() -> None:
    items = ifeval.score([row("a", NO_COMMA), row("a, b", NO_COMMA), row("a", NO_COMMA, prompt="q")], seed=0)
    assert [item.fields["strict"] for item in items] == [[False], [False], [True]]


def test_an_instruction_that_cannot_be_checked_is_not_followed() -> None:
    broken = row("a", NO_COMMA, ("keywords:existence", {"keywords": ["("]}))
    short = response(prompt="q", instruction_id_list=["punctuation:no_comma"], kwargs=[], response="a")
    items = ifeval.score([broken, short], seed=0)
    assert [item.fields for item in items] == [{"error": "re.error"}, {"error": "IndexError"}]
    assert items[0].strict == ((0.0, 1.0), (0.0, 2.0), (0.0, 1.0), (0.0, 2.0))
    assert items[0].official is None


def test_an_argument_that_the_official_code_draws_counts_as_a_guess() -> None:
    letter = ("keywords:letter_frequency", {"letter": "#", "let_frequency": 1, "let_relation": "at least"})
    rows = [row("abcdefghijklm", letter, prompt=str(index)) for index in range(1000)]
    items = ifeval.score(rows, seed=0)
    assert sum(item.fields["strict"][0] for item in items) / 1000 == pytest.approx(0.5, abs=0.05)
    assert all(item.fallbacks == 1 and item.strict[1] == (0.0, 1.0) for item in items)


def test_a_paragraph_out_of_range_is_drawn_up_to_one_past_the_last() -> None:
    name, rng = "length_constraints:nth_paragraph_first_word", random.Random(0)
    arguments = {"num_paragraphs": 2, "nth_paragraph": 5, "first_word": "a"}
    drawn = {ifeval.draw_arguments(name, arguments, rng)["nth_paragraph"] for _ in range(60)}
    assert drawn == {1, 2, 3}
    assert ifeval.draw_arguments(name, {**arguments, "nth_paragraph": 2}, rng)["nth_paragraph"] == 2
