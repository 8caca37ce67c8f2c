"""Each instruction followed and not, by cases worked out by hand."""

from typing import Any

import pytest

from azeros.evaluation.voicebench.instructions import INSTRUCTIONS, MissingArgument, build_check

TWO = "One two. Dr. Smith left."
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["sol.r", "Wind"]}, "SOLAR winding", "solar"),
    ("keywords:frequency", {"keyword": " a ", "frequency": 2, "relation": "at least"}, "A ba", "a"),
    ("keywords:forbidden_words", {"forbidden_words": ["art"]}, "party", "my Art."),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 2, "let_relation": "less than"}, "Ex", "eE"),
    ("language:response_language", {"language": "de"}, "Das ist ein ganz einfacher Satz.", "This is a plain sentence."),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}, TWO, TWO + " Go. Run."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***a *** b***", "a *** *** b"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "it's so", "so, so"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Hello"},
        "a\n\n'\"hello, b",
        "a\n\n\n\nhello b",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [] b", "[a\n] [b]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "a\np. s. b", "a ps b"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "a p.p. s b", "P.S. b"),
    ("detectable_content:postscript", {"postscript_marker": "Nota"}, "a\nnota b", "note"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n - b\n**c", "* a\n- b\n- c"),
    ("detectable_format:constrained_response", {}, "So: My answer is maybe.", "my answer is yes."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* **b**", "*a* ** **"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Part", "num_sections": 2},
        "Part 1 a Part 2 b",
        "Part 1 a part 2 b",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "a <<b>> c", "<<  >> <c>"),
    ("combination:two_responses", {}, "a******b******", "a****** a "),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it "}, " SAY IT now", "now say it"),
    ("startend:end_checker", {"end_phrase": " The end. "}, 'a the END."', "the end. b"),
    ("startend:quotation", {}, ' "a" ', '"'),
    ("change_case:capital_word_frequency", {"capital_frequency": 3, "capital_relation": "at least"}, "CANNOT A", "A B."),
    ("change_case:english_capital", {}, "WHY DO YOU THINK THEY SAID THAT?", "Why do you think that?"),
    ("change_case:english_lowercase", {}, "the weather is very nice here today", "das wetter ist heute sehr schön"),
    ("punctuation:no_comma", {}, "a，b", "a, b"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "followed", "broken"), CASES)
def test_an_instruction_is_followed_or_not(name: str, arguments: Any, followed: str, broken: str) -> None:
    check = build_check(name, arguments)
    assert check(followed) is True
    assert check(broken) is False


def test_every_instruction_has_a_case() -> None:
    assert {name for name, *_ in CASES} == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25


@pytest.mark.parametrize(
    "name", ["language:response_language", "change_case:english_capital", "change_case:english_lowercase"]
)
def test_text_without_a_language_breaks_no_rule_on_language(name: str) -> None:
    arguments = {"language": "de"} if name == "language:response_language" else {}
    assert build_check(name, arguments)("123 !") is (name == "language:response_language")


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("keywords:no_such", {}, KeyError),
        ("punctuation:no_comma", {"keywords": ["a"]}, TypeError),
        ("length_constraints:number_words", {"num_words": 5, "relation": "at most"}, ValueError),
        ("combination:repeat_prompt", {}, ValueError),
        ("length_constraints:number_words", {"relation": "at least"}, MissingArgument),
        ("length_constraints:number_words", {"num_words": -1, "relation": "at least"}, MissingArgument),
        ("keywords:existence", {}, MissingArgument),
    ],
)
def test_an_instruction_that_cannot_be_built(name: str, arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        build_check(name, arguments)
    assert type(caught.value) is error
