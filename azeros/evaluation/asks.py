"""What held-out speech is asked, and how each answer is scored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from azeros.errors import ParamsError
from azeros.evaluation.scores import edit_distance, names_label, wilson_interval, word_units
from azeros.params import Evaluate
from azeros.sift.prompts import read_metadata, wrap_metadata

if TYPE_CHECKING:
    from lhotse.cut import Cut

ATTRIBUTES = ("gender", "age", "emotion")


@dataclass(frozen=True)
class Ask:
    """One question about one recording."""

    kind: str
    """plain (no instruction), repeat, gender, age, emotion, or the kind of a question that the corpus brings."""
    cut_id: str
    instruction: str
    text: str
    """What the language model is shown in place of the speech: the transcript, in the mode that tells what the question needs."""
    right: str | None
    """The right reply or label; None where the language model's own answer to `text` is the measure."""


def plain_ask(cut: Cut) -> Ask:
    """No question: whatever is said is answered."""
    return Ask("plain", cut.id, "", read_metadata(cut.supervisions[0])["text"], None)


def asks_of(cut: Cut, settings: Evaluate) -> list[Ask]:
    """Everything that is asked about a cut.

    Raises:
        ParamsError: there are no instructions in its language.
    """
    supervision = cut.supervisions[0]
    metadata = read_metadata(supervision)
    text, custom = metadata["text"], supervision.custom or {}
    try:
        instructions = settings.instructions[supervision.language or ""]
    except KeyError:
        raise ParamsError(
            f"evaluate.instructions: none for language '{supervision.language}' of cut {cut.id}: add them to params.yaml"
        ) from None
    asks = [plain_ask(cut), Ask("repeat", cut.id, instructions.repeat, text, text)]
    told = wrap_metadata(text, metadata)
    asks += [
        Ask(key, cut.id, getattr(instructions, key), told, metadata[key])
        for key in ATTRIBUTES
        if metadata[key] != "?"
    ]
    asks += [Ask(q["kind"], cut.id, q["instruction"], text, q["reply"]) for q in custom.get("questions", [])]
    return asks


@dataclass(frozen=True)
class Figure:
    """A share, or a word error rate, with what it was counted from."""

    value: float
    low: float
    high: float
    count: int

    def to_dict(self) -> dict[str, float]:
        """Rounded, for JSON."""
        return {
            "value": round(self.value, 5),
            "low": round(self.low, 5),
            "high": round(self.high, 5),
            "count": self.count,
        }


def score(
    asks: Iterable[Ask], answers: Mapping[Ask, str], text_answers: Mapping[Ask, str]
) -> dict[str, Figure]:
    """Figures of one system by kind.

    `plain` is the share answered exactly as the transcript is; `repeat_wer` counts words against the transcript, and `repeat` whole answers; attributes
    count where the right label alone is named; other kinds count replies that are right to the letter, and of a choice, whose reply is
    "word, letter", `choice_word` counts the word alone.
    """
    asks = list(asks)
    labels = {key: sorted({ask.right for ask in asks if ask.kind == key and ask.right}) for key in ATTRIBUTES}
    hits: dict[str, list[bool]] = {}
    errors: list[tuple[int, int]] = []
    for ask in asks:
        answer = answers[ask].strip()
        hits.setdefault(ask.kind, []).append(_is_right(ask, answer, text_answers, labels))
        if ask.kind == "choice":
            hits.setdefault("choice_word", []).append(_chosen_word(answer) == _chosen_word(ask.right or ""))
        if ask.kind == "repeat":
            said = word_units(ask.right or "")
            errors.append((edit_distance(said, word_units(answer)), len(said)))
    figures = {
        kind: Figure(sum(h) / len(h), *wilson_interval(sum(h), len(h)), len(h)) for kind, h in hits.items()
    }
    if errors:
        figures["repeat_wer"] = _error_rate(errors)
    return figures


def _is_right(
    ask: Ask, answer: str, text_answers: Mapping[Ask, str], labels: Mapping[str, list[str]]
) -> bool:
    if ask.right is None:
        return answer == text_answers[ask].strip()
    if ask.kind in labels:
        return names_label(answer, ask.right, labels[ask.kind])
    if ask.kind == "repeat":
        return word_units(answer) == word_units(ask.right)
    return answer == ask.right


def _chosen_word(reply: str) -> str:
    return re.split("[,，]", reply)[0]


def _error_rate(errors: list[tuple[int, int]], resamples: int = 1000) -> Figure:
    """Edits over words, with a bootstrap interval over utterances."""
    import numpy as np

    table = np.array(errors)
    picks = np.random.default_rng(0).integers(0, len(table), (resamples, len(table)))
    rates = table[picks, 0].sum(axis=1) / np.maximum(table[picks, 1].sum(axis=1), 1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return Figure(float(table[:, 0].sum() / max(table[:, 1].sum(), 1)), float(low), float(high), len(table))
