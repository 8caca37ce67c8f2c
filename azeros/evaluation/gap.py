"""The modality gap: how far the next tokens of a language model that hears are from those it would have had from the transcript.

No judge and no sampling: both read the same answer, the language model's own to the transcript, and what they expect next is compared token by token.

Letters: B rows, L tokens of a row, N answer tokens of a batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from azeros.evaluation.asks import ATTRIBUTES, Ask, Figure
from azeros.evaluation.tally import figure
from azeros.model.embedding import AudioFrames, check_slots, embed_rows
from azeros.progress import track
from azeros.sift.prompts import read_metadata

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from azeros.model.speech_llm import AZerosModel
    from azeros.training.encoded import EncodedCuts

# Rows at a time: two times (rows x tokens x vocabulary) probabilities are held, 4 GB for answers of 200 tokens of 152,000.
_BATCH_ROWS = 16
_DURATIONS_S = (2, 4, 8, 16)
_SEED = 0  # of the bootstrap


@dataclass(frozen=True)
class Gap:
    """What was counted over the answer to one utterance."""

    num_tokens: int
    """Those of the answer, its end token among them if it ended."""
    divergence: float
    """Sum over the tokens of KL(from the transcript || from the speech), in nats."""
    num_agreeing: int
    """Tokens where the likeliest is the same."""


@dataclass(frozen=True)
class Slice:
    """The gap over the utterances that have something in common."""

    by: str
    """all, language, gender, age, emotion or duration."""
    value: str
    num_utterances: int
    divergence: Figure
    """Nats a token."""
    agreement: Figure
    """Share of the tokens."""


@torch.no_grad()
def measure(
    name: str,
    model: AZerosModel,
    asks: Sequence[Ask],
    text_answers: Mapping[Ask, str],
    encoded: EncodedCuts,
    max_new_tokens: int,
) -> dict[str, Gap]:
    """Cut id -> its gap.

    Args:
        name: of the system, to show.
        model: hears, and reads.
        asks: one a cut, with the transcript.
        text_answers: the language model's own answers to the transcripts.
        encoded: encoder outputs of the cuts.
        max_new_tokens: an answer of so many did not end.
    """
    processor = model.processor
    answers: dict[Ask, list[int]] = {}
    for ask in asks:
        ids = processor.tokenizer(text_answers[ask], add_special_tokens=False)["input_ids"]
        answers[ask] = [*ids, processor.end_token_id] if len(ids) < max_new_tokens else ids
    order = sorted(asks, key=lambda ask: len(answers[ask]))
    gaps: dict[str, Gap] = {}
    with track(f"gap {name}", len(order)) as advance:
        for start in range(0, len(order), _BATCH_ROWS):
            batch = order[start : start + _BATCH_ROWS]
            wanted = [answers[ask] for ask in batch]
            read = _log_probs(model, [ask.text for ask in batch], wanted, [])
            frames = model.project(encoded.batch([ask.cut_id for ask in batch]))
            heard = _log_probs(model, [model.audio_token_wrapped] * len(batch), wanted, frames)
            gaps |= {ask.cut_id: gap for ask, gap in zip(batch, _gaps(read, heard, wanted), strict=True)}
            advance(len(batch))
    return gaps


def _log_probs(
    model: AZerosModel, contents: Sequence[str], answers: Sequence[list[int]], frames: AudioFrames
) -> Tensor:
    """Log-probabilities (N, V) float32 of what comes at each token of the answers, row after row."""
    processor, wrapped = model.processor, model.audio_token_wrapped
    asked = [processor.encode_inference([{"role": "user", "content": text}], wrapped) for text in contents]
    slots = check_slots(asked, frames, processor, wrapped)
    prompts = [processor.expand(ids, sizes) for ids, sizes in zip(asked, slots, strict=True)]
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    embeds, mask = embed_rows(model.llm, rows, frames, processor, "right")
    before = torch.zeros_like(mask, dtype=torch.bool)
    for row, prompt, answer in zip(before, prompts, answers, strict=True):
        row[len(prompt) - 1 : len(prompt) - 1 + len(answer)] = True
    columns = before.any(dim=0).nonzero()[:, 0]
    logits: Tensor = model.llm(
        inputs_embeds=embeds, attention_mask=mask, use_cache=False, logits_to_keep=columns
    ).logits
    return logits[before[:, columns]].float().log_softmax(dim=-1)


def _gaps(read: Tensor, heard: Tensor, answers: Sequence[list[int]]) -> list[Gap]:
    """Of each answer, from the log-probabilities (N, V) of its tokens."""
    divergence = (read.exp() * (read - heard)).sum(dim=-1)
    agrees = read.argmax(dim=-1) == heard.argmax(dim=-1)
    sizes = [len(answer) for answer in answers]
    return [
        Gap(size, float(nats.sum()), int(same.sum()))
        for size, nats, same in zip(sizes, divergence.split(sizes), agrees.split(sizes), strict=True)
    ]


def slices(gaps: Mapping[str, Gap], cuts: Iterable[Cut]) -> list[Slice]:
    """The gap over all utterances, then by what is known of them, with 95 % intervals of the bootstrap over utterances."""
    members: dict[tuple[str, str], list[Gap]] = {}
    for cut in cuts:
        for key in [("all", "all"), *_traits(cut)]:
            members.setdefault(key, []).append(gaps[cut.id])
    order = ["all", "language", *ATTRIBUTES, "duration"]
    keys = sorted(members, key=lambda key: (order.index(key[0]), key[1]))
    return [
        Slice(
            *key,
            len(members[key]),
            _figure(members[key], lambda gap: gap.divergence),
            _figure(members[key], lambda gap: gap.num_agreeing),
        )
        for key in keys
    ]


def figures(parts: Sequence[Slice]) -> dict[str, Figure]:
    """The figures over all utterances by their names in metrics.json."""
    (whole,) = (part for part in parts if part.by == "all")
    return {"gap_divergence": whole.divergence, "gap_agreement": whole.agreement}


def _traits(cut: Cut) -> list[tuple[str, str]]:
    said = cut.supervisions[0]
    metadata = read_metadata(said)
    edges = [0, *_DURATIONS_S]
    start = max(edge for edge in edges if edge <= cut.duration)
    span = (
        f"{start:2d} s or more" if start == edges[-1] else f"{start:2d} to {edges[edges.index(start) + 1]} s"
    )
    return [
        ("language", said.language or "?"),
        *((key, metadata[key]) for key in ATTRIBUTES),
        ("duration", span),
    ]


def _figure(gaps: Sequence[Gap], count: Callable[[Gap], float]) -> Figure:
    found = figure([((count(gap), gap.num_tokens),) for gap in gaps], 1.0, _SEED)
    assert found.value is not None
    assert found.interval is not None
    return Figure(found.value, *found.interval, sum(gap.num_tokens for gap in gaps))
