"""Recipes: from a corpus as it lies on disk to utterances, one module a corpus.

A recipe is a module with `prepare(corpus, seed) -> Source`: it finds the rows and reads their metadata.
Decoding, checking, counting and writing is the work of azeros/stages/prepare.py. A row that cannot be used is
yielded as a `Reject`, never left out. The module has the name that params.yaml gives as `recipe`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from azeros.params import Corpus


@dataclass(frozen=True)
class Question:
    """Something that can be asked about an utterance, with the one right reply: evaluation asks it."""

    kind: str
    instruction: str
    reply: str


@dataclass(frozen=True)
class Utterance:
    """One row that a recipe found."""

    id: str
    """Unique in its corpus; names the file where `audio` is samples."""
    split: str
    """train, validation or test."""
    audio: Path | NDArray[np.float32]
    """A recording, or samples (N,) in [-1, 1] at 16 kHz, which the stage stores as FLAC."""
    text: str
    language: str
    speaker: str | None = None
    gender: str | None = None
    age: int | None = None
    """Years."""
    age_group: str | None = None
    emotion: str | None = None
    questions: tuple[Question, ...] = ()


@dataclass(frozen=True)
class Reject:
    """One row that cannot be used."""

    id: str
    reason: str
    """A few words, the same for all rows with this fault: rejects are counted by it."""
    detail: str
    """Where and what exactly."""


Row = Utterance | Reject


@dataclass(frozen=True)
class Source:
    """What a recipe yields, in an order that depends on corpus and seed alone."""

    num_rows: int
    """Utterances and rejects together."""
    rows: Iterator[Row]


def open_corpus(corpus: Corpus, seed: int) -> Source:
    """The rows of a corpus, by the recipe that it names.

    Raises:
        CorpusError: the corpus is missing or not laid out as its recipe expects.
    """
    source: Source = import_module(f"{__name__}.{corpus.recipe}").prepare(corpus, seed)
    return source
