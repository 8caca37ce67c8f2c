"""The 25 verifiable instructions of IFEval (Zhou et al. 2023, arXiv:2311.07911), as its own code checks them.

Each function takes an instruction's arguments and returns the check of a response. The rules follow
github.com/google-research/google-research, instruction_following_eval (Apache License 2.0).
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

Check = Callable[[str], bool]

# Arguments that are drawn anew where they are negative.
_COUNTS = {"num_sentences", "num_placeholders", "num_bullets", "num_highlights", "num_sections", "num_paragraphs",
           "num_words", "frequency", "let_frequency"}  # fmt: skip


class MissingArgument(ValueError):
    """The official code would draw the argument at random."""


def build_check(instruction_id: str, arguments: dict[str, Any]) -> Check:
    """The check of an instruction.

    Raises:
        KeyError: there is no such instruction.
        TypeError: it takes no such argument.
        ValueError: an argument has a value that it cannot have.
        MissingArgument: an argument is missing, or a count is negative.
    """
    instruction = INSTRUCTIONS[instruction_id]
    wanted = inspect.signature(instruction).parameters
    if arguments.keys() <= wanted.keys():
        for name in wanted:
            if name not in arguments and name != "prompt_to_repeat":
                raise MissingArgument(f"{instruction_id} has no {name}")
            if name in _COUNTS and arguments.get(name, 0) < 0:
                raise MissingArgument(f"{instruction_id} has a negative {name}")
    return instruction(**arguments)


def _compare(relation: str, threshold: float) -> Callable[[int], bool]:
    if relation == "less than":
        return lambda count: count < threshold
    if relation == "at least":
        return lambda count: count >= threshold
    raise ValueError(f"relation '{relation}'")


def _existence(keywords: list[str]) -> Check:
    return lambda text: all(re.search(keyword, text, re.IGNORECASE) for keyword in sorted(keywords))


def _frequency(keyword: str, frequency: int, relation: str) -> Check:
    enough = _compare(relation, frequency)
    return lambda text: enough(len(re.findall(keyword.strip(), text, re.IGNORECASE)))


def _forbidden_words(forbidden_words: list[str]) -> Check:
    words = sorted(forbidden_words)
    return lambda text: not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in words)


def _letter_frequency(letter: str, let_frequency: int, let_relation: str) -> Check:
    enough = _compare(let_relation, let_frequency)
    return lambda text: enough(text.lower().count(letter.lower()))


def _response_language(language: str) -> Check:
    return lambda text: _detect(text) in (language, None)


def _number_sentences(num_sentences: int, relation: str) -> Check:
    enough = _compare(relation, num_sentences)
    return lambda text: enough(len(_sentence_splitter().tokenize(text)))


def _number_paragraphs(num_paragraphs: int) -> Check:
    def check(text: str) -> bool:
        first, *inner = re.split(r"\s?\*\*\*\s?", text)
        last = inner.pop() if inner else ""
        blank_ends = [not first.strip(), not last.strip()]
        return (
            all(piece.strip() for piece in inner) and len(inner) + blank_ends.count(False) == num_paragraphs
        )

    return check


def _number_words(num_words: int, relation: str) -> Check:
    enough = _compare(relation, num_words)
    return lambda text: enough(len(re.findall(r"\w+", text)))


def _nth_paragraph_first_word(num_paragraphs: int, nth_paragraph: int, first_word: str) -> Check:
    def check(text: str) -> bool:
        pieces = [piece.strip() for piece in text.split("\n\n")]
        if sum(map(bool, pieces)) != num_paragraphs or nth_paragraph > num_paragraphs:
            return False
        words = pieces[nth_paragraph - 1].split()  # blank pieces count here, and not above
        if not words:
            return False
        word = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'))[0]
        return word.lower() == first_word.lower()

    return check


def _number_placeholders(num_placeholders: int) -> Check:
    return lambda text: len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def _postscript(postscript_marker: str) -> Check:
    marker = postscript_marker.strip()
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    pattern = patterns.get(marker, rf"\s*{marker.lower()}.*$")
    return lambda text: re.search(pattern, text.lower(), re.MULTILINE) is not None


def _number_bullet_lists(num_bullets: int) -> Check:
    def check(text: str) -> bool:
        patterns = r"^\s*\*[^\*].*$", r"^\s*-.*$"
        return sum(len(re.findall(pattern, text, re.MULTILINE)) for pattern in patterns) == num_bullets

    return check


def _constrained_response() -> Check:
    answers = "My answer is yes.", "My answer is no.", "My answer is maybe."
    return lambda text: any(answer in text for answer in answers)


def _number_highlighted_sections(num_highlights: int) -> Check:
    def check(text: str) -> bool:
        spans = re.findall(r"\*[^\n\*]*\*", text) + re.findall(r"\*\*[^\n\*]*\*\*", text)
        return sum(bool(span.strip("*").strip()) for span in spans) >= num_highlights

    return check


def _multiple_sections(section_spliter: str, num_sections: int) -> Check:
    pattern = rf"\s?{section_spliter.strip()}\s?\d+\s?"
    return lambda text: len(re.split(pattern, text)) - 1 >= num_sections


def _json_format() -> Check:
    def check(text: str) -> bool:
        text = text.strip()
        for fence in ("```json", "```Json", "```JSON", "```"):
            text = text.removeprefix(fence)
        try:
            json.loads(text.removesuffix("```").strip())
        except ValueError:
            return False
        return True

    return check


def _title() -> Check:
    return lambda text: any(
        title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text)
    )


def _two_responses() -> Check:
    def check(text: str) -> bool:
        pieces = [piece.strip() for piece in text.split("******")]
        answers = [piece for piece in pieces if piece]
        return all(pieces[1:-1]) and len(answers) == 2 and answers[0] != answers[1]

    return check


def _repeat_prompt(prompt_to_repeat: str = "") -> Check:
    if not prompt_to_repeat:
        raise ValueError("nothing to repeat")
    return lambda text: text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _end_checker(end_phrase: str) -> Check:
    return lambda text: text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quotation() -> Check:
    return lambda text: len(text.strip()) > 1 and text.strip()[0] == text.strip()[-1] == '"'


def _capital_word_frequency(capital_frequency: int, capital_relation: str) -> Check:
    enough = _compare(capital_relation, capital_frequency)
    return lambda text: enough(sum(word.isupper() for word in _words(text)))


def _english_capital() -> Check:
    return lambda text: text.isupper() and _detect(text) in ("en", None)


def _english_lowercase() -> Check:
    return lambda text: text.islower() and _detect(text) in ("en", None)


def _no_comma() -> Check:
    return lambda text: "," not in text


def _detect(text: str) -> str | None:
    """The language's code, None if there is nothing to tell it by.

    Officially the draws within langdetect are unseeded: all-capital English is `en` only part of the time.
    """
    import langdetect

    langdetect.DetectorFactory.seed = 0
    try:
        return str(langdetect.detect(text))
    except langdetect.LangDetectException:
        return None


@cache
def _sentence_splitter() -> Any:
    """NLTK's Punkt with its English model, from a package that ships the model: nothing is downloaded."""
    import punkt
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    model, parameters = punkt.load_model("english"), PunktParameters()
    for name in ("abbrev_types", "collocations", "sent_starters"):
        setattr(parameters, name, set(getattr(model, name)))
    parameters.ortho_context.update(model.ortho_context)
    return PunktSentenceTokenizer(parameters)


def _words(text: str) -> list[str]:
    """As NLTK's word_tokenize."""
    from nltk.tokenize.destructive import NLTKWordTokenizer

    tokenizer = NLTKWordTokenizer()
    return [word for sentence in _sentence_splitter().tokenize(text) for word in tokenizer.tokenize(sentence)]


INSTRUCTIONS: dict[str, Callable[..., Check]] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _response_language,
    "length_constraints:number_sentences": _number_sentences,
    "length_constraints:number_paragraphs": _number_paragraphs,
    "length_constraints:number_words": _number_words,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph_first_word,
    "detectable_content:number_placeholders": _number_placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _number_bullet_lists,
    "detectable_format:constrained_response": _constrained_response,
    "detectable_format:number_highlighted_sections": _number_highlighted_sections,
    "detectable_format:multiple_sections": _multiple_sections,
    "detectable_format:json_format": _json_format,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat_prompt,
    "startend:end_checker": _end_checker,
    "startend:quotation": _quotation,
    "change_case:capital_word_frequency": _capital_word_frequency,
    "change_case:english_capital": _english_capital,
    "change_case:english_lowercase": _english_lowercase,
    "punctuation:no_comma": _no_comma,
}
