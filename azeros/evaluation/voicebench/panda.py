"""PANDA: whether an answer matches a reference, by the PEDANT classifier (as in qa_metrics 0.2.17, MIT License).

Its weights are no part of this package; `azeros panda-weights` fetches them. The substring rule comes before the
classifier, a logistic regression on the TF-IDF of candidate, reference and question, and on their common words.

Letters: V terms of the vocabulary.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import string
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import regex
from numpy.typing import NDArray

from azeros.errors import BenchmarkError

WEIGHTS_FILE = "pedant_weights.npz"
VOCABULARY_FILE = "pedant_vocab.json.gz"
# Of the official files of 2024-10-30, with which these scores were checked; the files changed before, and may again.
CHECKED_DIGEST = "1710b588a90a62a32430056aff6f5da5ef5c3a82a20f72002626baf328bf6753"
_NUM_OVERLAPS = 3  # F1, precision, recall
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Panda:
    """The classifier as plain arrays.

    Attributes:
        terms: the V terms in the order of the columns.
        idf: (V,) float64.
        coef: (V + 3,) float64, the last three for F1, precision and recall.
        intercept: float.
    """

    terms: list[str]
    idf: NDArray[np.float64]
    coef: NDArray[np.float64]
    intercept: float

    def __post_init__(self) -> None:
        shapes = (len(self.terms),), (len(self.terms) + _NUM_OVERLAPS,)
        if (self.idf.shape, self.coef.shape) != shapes:
            raise BenchmarkError(
                f"PANDA weights do not fit each other: {len(self.terms)} terms, idf {self.idf.shape},"
                f" coef {self.coef.shape}; fetch them again with azeros panda-weights"
            )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the arrays that `save` wrote.

        Raises:
            BenchmarkError: a file is missing or is not what it should be.
        """
        try:
            with np.load(folder / WEIGHTS_FILE, allow_pickle=False) as arrays:
                idf, coef, intercept = (arrays[name] for name in ("idf", "coef", "intercept"))
            with gzip.open(folder / VOCABULARY_FILE, "rt", encoding="utf-8") as file:
                terms = json.load(file)
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise BenchmarkError(
                f"{folder}: no PANDA weights there ({error}); run: azeros panda-weights {folder}"
            ) from error
        return cls(terms, idf, coef, float(intercept.item()))

    def save(self, folder: Path) -> None:
        """Write the arrays into `folder`, which exists; equal weights give equal bytes."""
        intercept = np.array([self.intercept])
        np.savez(folder / WEIGHTS_FILE, idf=self.idf, coef=self.coef, intercept=intercept)
        packed = gzip.compress(json.dumps(self.terms).encode(), mtime=0)
        (folder / VOCABULARY_FILE).write_bytes(packed)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        digest = hashlib.sha256(json.dumps(self.terms).encode())
        for values in (self.idf, self.coef, np.array([self.intercept])):
            digest.update(values.astype("<f8").tobytes())
        return digest.hexdigest()

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {term: column for column, term in enumerate(self.terms)}

    def judge(self, reference: str, response: str, question: str) -> tuple[bool, float | None]:
        """Whether `response` is right, and the margin: right up to 0; None where the substring rule decides."""
        reference, response = _clean(reference), _clean(response)
        if reference in response:
            return True, None
        overlaps = np.array(_overlaps(response, reference))
        text = f"[CLS] {response} [SEP] {reference} [SEP] {_expand(_clean(question))} [SEP]"
        margin = self._tfidf_score(text) + float(overlaps @ self.coef[-_NUM_OVERLAPS:]) + self.intercept
        return margin <= 0, margin

    def _tfidf_score(self, text: str) -> float:
        words = Counter(re.findall(r"\b\w\w+\b", text.lower()))
        known = {self._columns[word]: count for word, count in words.items() if word in self._columns}
        columns = np.array(sorted(known), dtype=np.intp)
        weights = np.array([known[column] for column in columns.tolist()]) * self.idf[columns]
        norm = np.linalg.norm(weights)
        return float(weights @ self.coef[columns] / norm) if norm else 0.0


def _clean(text: str) -> str:
    """Lower-cased, without ASCII punctuation and articles, spaces single."""
    # To regex a combining mark is part of a word, to re it is not.
    return " ".join(regex.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split())


def _expand(text: str) -> str:
    """Contractions and slang written out: "dont" becomes "do not"."""
    import contractions

    return contractions.fix(text)


def _overlaps(candidate: str, reference: str) -> tuple[float, float, float]:
    """F1, precision and recall of the sets of words."""
    said, wanted = (set(_clean(_expand(text)).split()) for text in (candidate, reference))
    num_common = len(said & wanted)
    if not num_common:
        return 0.0, 0.0, 0.0
    precision, recall = num_common / len(said), num_common / len(wanted)
    return 2 * precision * recall / (precision + recall), precision, recall
