"""Recipes: from a corpus as it lies on disk to utterances, one module a corpus.

A recipe is a module with `prepare(corpus, seed) -> Source`: it finds the rows and reads their metadata.
Decoding, checking, counting and writing is the work of azeros/data/corpus.py. A row that cannot be used is
yielded as a `Reject`, never left out. The module has the name that params.yaml gives as `recipe`.

lhotse's recipes for some of these corpora end at the first damaged file and leave out rows without saying so.
Ours keep their ids and texts (tests/data/recipes/ compares them) and account for every row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from azeros.data.audio import Part
from azeros.params import Corpus

T = TypeVar("T")


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
    audio: Path | Part | NDArray[np.float32]
    """A recording, or samples (N,) in [-1, 1] at 16 kHz, which are stored as FLAC."""
    text: str | None
    """None where the corpus has no transcripts; an empty one is a fault."""
    language: str | None
    speaker: str | None = None
    gender: str | None = None
    """A label of azeros/data/labels.py, as are `age_group` and `emotion`."""
    age: str | None = None
    """As the corpus has it: years, or a decade; gives `age_group` where the recipe does not."""
    age_group: str | None = None
    emotion: str | None = None
    start_s: float = 0.0
    """Where the utterance begins in a long recording."""
    duration_s: float | None = None
    """Of the utterance in a long recording; None where it is all of the recording."""
    questions: tuple[Question, ...] = ()
    custom: Mapping[str, object] = field(default_factory=dict)
    """What else the corpus says and is worth keeping."""


@dataclass(frozen=True)
class Reject:
    """One row that cannot be used."""

    id: str
    reason: str
    """A few words, the same for all rows with this fault: rejects are counted by it."""
    detail: str
    """Where and what exactly."""
    expected: bool = False
    """The corpus is known to have such rows, or its options ask for it: prepare.max_rejected_share is not about it."""


Row = Utterance | Reject


class BadRow(Exception):
    """Raised by a recipe while it reads a row that cannot be used: the row becomes the `reject`."""

    def __init__(self, id: str, reason: str, detail: str, expected: bool = False) -> None:
        self.reject = Reject(id, reason, detail, expected)
        super().__init__(detail)


@dataclass(frozen=True)
class Source:
    """What a recipe yields, in an order that depends on corpus and seed alone."""

    num_rows: int | None
    """Utterances and rejects together; None where only reading all of them would tell."""
    rows: Iterator[Row]


def rows_of(items: Iterable[T], read: Callable[[T], Row | None]) -> Iterator[Row]:
    """What `read` makes of each item: a row, or None for an item that is not asked for, or a `BadRow`."""
    for item in items:
        try:
            row = read(item)
        except BadRow as bad:
            row = bad.reject
        if row is not None:
            yield row


def open_corpus(corpus: Corpus, seed: int) -> Source:
    """The rows of a corpus, by the recipe that it names.

    Raises:
        CorpusError: the corpus is missing or not laid out as its recipe expects.
    """
    source: Source = import_module(f"{__name__}.{corpus.recipe}").prepare(corpus, seed)
    return source
