"""Whether a language model is fit to write its own targets: checks that cost seconds, before targets cost weeks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from azeros.data.labels import AGE_GROUPS, GENDERS
from azeros.errors import ManifestError
from azeros.model.chat import END_OF_TURN, START_OF_TURN, ChatTemplate, render_chat
from azeros.params import Mode, Sift
from azeros.sift.answers import TRUNCATED, Answer, Backend, answer_all
from azeros.sift.profile import LLMProfile
from azeros.sift.prompts import ATTRIBUTES, UNKNOWN, Prompt, render
from azeros.sift.selection import is_text

if TYPE_CHECKING:
    from lhotse import SupervisionSegment
    from rich.table import Table

_MARKS = ("<audio>", "</audio>", "<meta>", "</meta>", "<text>", "</text>", TRUNCATED)
_USER = {"role": "user", "content": "hello"}
_THOUGHT = "<think>"
# An attribute is told if so many of the answers tell it; answers are cut off too often if so many are.
_TOLD_SHARE, _MOST_TRUNCATED_SHARE = 0.5, 0.1
MODES: tuple[Mode, ...] = get_args(Mode)
_SENTENCES = (
    "the train to the airport leaves in ten minutes",
    "my sister bought a new guitar yesterday",
    "could you help me carry these boxes upstairs",
    "the doctor said the results will arrive on monday",
)
_EMOTIONS = ("neutral", "happy", "sad", "angry")


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    status: Literal["ok", "warning", "failed"]
    check: str
    message: str


@dataclass(frozen=True)
class Coverage:
    """How many answers tell a thing, of those to prompts that hold it; in sift_s no attribute is held, so that is chance."""

    told: int
    total: int

    @property
    def share(self) -> float:
        """Between 0 and 1; 0 where nothing was to be told."""
        return self.told / self.total if self.total else 0.0


def check_files(profile: LLMProfile) -> list[Finding]:
    """What tokenizer, template and settings say; no weights are read."""
    return [
        _turns(profile),
        _marks(profile),
        *_template(profile),
        _thinking(profile),
        _end(profile),
        _decoding(profile),
    ]


def _turns(profile: LLMProfile) -> Finding:
    end = _end_of_turn(profile)
    turns = [START_OF_TURN, END_OF_TURN] if profile.chat.has_qwen_turns else [end]
    split = [
        token
        for token, ids in zip(turns, profile.encode(turns), strict=True)
        if len(ids) != 1 or token not in profile.special_tokens
    ]
    if split:
        return Finding("failed", "turns", f"{', '.join(split)} is no token of its own")
    if profile.tokenizer.pad_token_id in (None, profile.end_of_turn):
        return Finding("failed", "turns", f"there is no padding token beside {end}")
    return Finding("ok", "turns", f"turns end with {end}, padding is another token")


def _end_of_turn(profile: LLMProfile) -> str:
    return str(profile.tokenizer.convert_ids_to_tokens(profile.end_of_turn))


def _marks(profile: LLMProfile) -> Finding:
    clash = [mark for mark in _MARKS if mark in profile.special_tokens]
    if clash:
        return Finding(
            "failed", "special tokens", f"{', '.join(clash)} would act as tokens in prompts or targets"
        )
    num = len(profile.special_tokens)
    return Finding("ok", "special tokens", f"transcripts that spell one of its {num} are rejected")


def _template(profile: LLMProfile) -> Iterator[Finding]:
    if not profile.chat.has_qwen_turns:
        yield Finding("ok", "template", "targets, training and inference use the model's own")
        if not profile.chat.takes_system_turns:
            yield Finding("warning", "template, system", "it refuses a system message: no modes *_ssp")
        return
    if not profile.tokenizer.chat_template:
        yield Finding(
            "failed", "template", "the tokenizer has no chat template to ask the trained model with"
        )
        return
    answered = [_USER, {"role": "assistant", "content": "hi"}]
    for name, theirs, ours in (
        ("question", profile.chat.inference([_USER]), profile.chat.prompt([_USER])),
        ("answer", profile.chat.inference(answered, answered=True), render_chat(answered)),
    ):
        if theirs == ours:
            yield Finding("ok", f"template, {name}", "training and inference render alike")
        elif theirs.endswith(ours):
            extra = theirs.removesuffix(ours)
            yield Finding(
                "warning", f"template, {name}", f"inference begins with {extra!r}, training does not"
            )
        elif theirs.startswith(ours):
            extra = theirs.removeprefix(ours)
            yield Finding(
                "warning", f"template, {name}", f"inference goes on with {extra!r}, training does not"
            )
        else:
            yield Finding("failed", f"template, {name}", f"inference renders {theirs!r}, training {ours!r}")


def _thinking(profile: LLMProfile) -> Finding:
    if not profile.tokenizer.chat_template:
        return Finding("ok", "thinking", "no template, no thinking mode")
    on, off = (
        profile.tokenizer.apply_chat_template(
            [_USER], tokenize=False, add_generation_prompt=True, enable_thinking=mode
        )
        for mode in (True, False)
    )
    if on != off:
        return Finding(
            "warning",
            "thinking",
            "the template has a thinking mode: switch it off at inference, targets are made without",
        )
    return Finding("ok", "thinking", "the template has no thinking mode")


def _end(profile: LLMProfile) -> Finding:
    ends = profile.tokenizer.convert_ids_to_tokens(sorted(profile.end_tokens))
    if profile.end_of_turn not in profile.end_tokens:
        return Finding(
            "warning",
            "end",
            f"generation_config.json ends at {ends}: add {_end_of_turn(profile)}, or a server goes on behind it",
        )
    return Finding("ok", "end", f"generation ends at {', '.join(ends)}")


def _decoding(profile: LLMProfile) -> Finding:
    if profile.unsupported:
        return Finding(
            "failed",
            "decoding",
            f"generation_config.json sets {', '.join(profile.unsupported)}: not applied here",
        )
    return Finding("ok", "decoding", f"greedy, repetition penalty {profile.repetition_penalty:g}")


def sample() -> list[SupervisionSegment]:
    """Plain sentences with every combination of attributes, for want of a manifest."""
    from lhotse import SupervisionSegment

    combinations = itertools.product(AGE_GROUPS, GENDERS, _EMOTIONS)
    return [
        SupervisionSegment(
            f"sample-{index}",
            f"sample-{index}",
            0.0,
            3.0,
            text=_SENTENCES[index % len(_SENTENCES)],
            language="en",
            gender=gender,
            custom={"age_group": age, "emotion": emotion},
        )
        for index, (age, gender, emotion) in enumerate(combinations)
    ]


def questions(
    said: Sequence[SupervisionSegment], settings: Sift, chat: ChatTemplate
) -> list[tuple[Mode, Prompt]]:
    """Each utterance in each mode; without those of a system message if the chat template refuses one.

    Raises ManifestError if a transcript is no text, ParamsError if there is no instruction in a language.
    """
    for supervision in said:
        if not is_text(supervision.text or ""):
            raise ManifestError(
                f"supervision {supervision.id}: {supervision.text!a} is no text; write a string of whole characters"
            )
    modes = [mode for mode in MODES if not mode.endswith("_ssp") or chat.takes_system_turns]
    return [
        (mode, render(mode, supervision, settings, chat.prompt)) for supervision in said for mode in modes
    ]


def elicit(
    asked: Sequence[tuple[Mode, Prompt]], backend: Backend, advance: Callable[[int], object]
) -> tuple[dict[str, dict[Mode, Coverage]], list[Finding]]:
    """The self-elicit test (paper, section 3.3): does it tell what it is shown, unasked and asked?

    Told is what stands in the answer to the letter: the attribute's word, and half of the transcript's words or
    more. What is not told is not in the target, so the speech model cannot learn it.

    Args:
        asked: as `questions` gives them.
        backend: where the language model runs.
        advance: called with every number of answers.

    Returns:
        Coverage by what is to be told and mode, and what the answers show besides.

    Raises EndpointError as `answer_all`.
    """
    answers = answer_all(backend, [prompt.prompt for _, prompt in asked], advance)
    modes = list(dict.fromkeys(mode for mode, _ in asked))
    table: dict[str, dict[Mode, Coverage]] = {}
    for what in ("text", *ATTRIBUTES):
        for mode in modes:
            hits = [
                answer.finish_reason != "refused" and _tells(answer.text, what, prompt)
                for (own, prompt), answer in zip(asked, answers, strict=True)
                if own == mode and prompt.metadata[what] != UNKNOWN
            ]
            table.setdefault(what, {})[mode] = Coverage(sum(hits), len(hits))
    return table, [*_refused(answers), _lengths(answers), _thoughts(answers), _recommend(table)]


def _tells(answer: str, what: str, prompt: Prompt) -> bool:
    held = prompt.metadata[what]
    if what != "text":
        return re.search(rf"(?<!\w){re.escape(held)}(?!\w)", answer.lower()) is not None
    # Short words stand in many answers; Chinese has no spaces between its own.
    words = set(re.findall(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]{4,}", held)) or set(held.split())
    return 2 * sum(word in answer.lower() for word in words) >= len(words)


def _refused(answers: Sequence[Answer]) -> Iterator[Finding]:
    reasons = [answer.text for answer in answers if answer.finish_reason == "refused"]
    if reasons:
        message = f"{len(reasons)} of {len(answers)} prompts are refused, the first by {reasons[0]}"
        yield Finding("failed", "server", message)


def _lengths(answers: Sequence[Answer]) -> Finding:
    num = sum(answer.finish_reason in ("length", "other_end") for answer in answers)
    message = f"{num} of {len(answers)} answers do not end their turn within sift.max_new_tokens"
    return Finding("warning" if num > _MOST_TRUNCATED_SHARE * len(answers) else "ok", "length", message)


def _thoughts(answers: Sequence[Answer]) -> Finding:
    num = sum(_THOUGHT in answer.text for answer in answers)
    message = f"{num} of {len(answers)} answers think aloud ({_THOUGHT})"
    return Finding("failed" if num else "ok", "thinking, answers", message)


def _recommend(table: Mapping[str, Mapping[Mode, Coverage]]) -> Finding:
    """SIFT where the model tells every attribute unasked, else SIT where it tells them asked."""
    held = [table[attribute] for attribute in ATTRIBUTES if table[attribute]["sift_sp"].total]
    if not held:
        return Finding("warning", "self-elicit", "no attribute is known of these cuts: use sift_s")
    choices: tuple[Mode, ...] = ("sift_sp", "sift_ssp", "sit_sp", "sit_ssp")
    for mode in choices:
        if mode in held[0] and min(by_mode[mode].share for by_mode in held) >= _TOLD_SHARE:
            advice = "unasked: use SIFT" if mode.startswith("sift") else "when asked, not unasked: use SIT"
            return Finding("ok", "self-elicit", f"it tells every attribute {advice}, mode {mode}")
    return Finding(
        "warning",
        "self-elicit",
        "in no mode does it tell every attribute: use sift_s, and SIT with an instruction that it follows",
    )


def to_table(coverage: Mapping[str, Mapping[Mode, Coverage]]) -> Table:
    """Shares of answers that tell each thing, a column for each mode."""
    from rich.table import Table

    table = Table("told", *next(iter(coverage.values())))
    for what, by_mode in coverage.items():
        table.add_row(what, *(f"{100 * c.share:.0f} % of {c.total}" for c in by_mode.values()))
    return table
