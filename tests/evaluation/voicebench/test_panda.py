"""The classifier against scikit-learn's own, and its arrays on disk."""

import random
from pathlib import Path

import numpy as np
import pytest

from azeros.errors import BenchmarkError
from azeros.evaluation.voicebench.panda import CHECKED_DIGEST, VOCABULARY_FILE, WEIGHTS_FILE, Panda

WORDS = ["paris", "lyon", "big", "city", "in", "france", "what", "don", "not", "do", "cls", "sep", "is"]


def small(seed: int = 0) -> Panda:
    rng = np.random.default_rng(seed)
    coef = rng.normal(size=len(WORDS) + 3)
    return Panda(sorted(WORDS), rng.uniform(1, 9, len(WORDS)), coef, 0.25)


def test_a_reference_within_the_response_is_right() -> None:
    assert small().judge("The Paris!", "It is PARIS, a city", "What?") == (True, None)
    assert small().judge("the", "anything", "What?") == (True, None)


def test_the_margin_is_that_of_scikit_learn() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    panda, rng = small(), random.Random(0)
    vectorizer = text.TfidfVectorizer(vocabulary=panda.terms)
    vectorizer.idf_ = panda.idf
    for _ in range(50):
        # Words that cleaning and writing out leave as they are.
        response, question = (" ".join(rng.choices(WORDS[:7], k=rng.randint(0, 6))) for _ in range(2))
        whole = f"[CLS] {response} [SEP] paris x [SEP] {question} [SEP]"
        said = set(response.split())
        common = len(said & {"paris", "x"})
        precision, recall = (common / len(said), common / 2) if common else (0.0, 0.0)
        overlaps = [2 * precision * recall / (precision + recall) if common else 0.0, precision, recall]
        features = np.concatenate([vectorizer.transform([whole]).toarray()[0], overlaps])
        right, margin = panda.judge("paris x", response, question)
        assert margin == pytest.approx(features @ panda.coef + panda.intercept, abs=1e-12)
        assert margin is not None
        assert right is (margin <= 0)


def test_arrays_survive_the_disk(tmp_path: Path) -> None:
    small().save(tmp_path)
    first = [(tmp_path / name).read_bytes() for name in (WEIGHTS_FILE, VOCABULARY_FILE)]
    loaded = Panda.load(tmp_path)
    assert loaded.digest == small().digest != small(seed=1).digest
    assert loaded.terms == small().terms
    loaded.save(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in (WEIGHTS_FILE, VOCABULARY_FILE)] == first


@pytest.mark.parametrize("fault", ["no folder", "no terms", "not arrays", "cut terms"])
def test_missing_weights_are_named_with_the_command_that_gets_them(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "panda"
    if fault != "no folder":
        folder.mkdir()
        small().save(folder)
    if fault == "no terms":
        (folder / VOCABULARY_FILE).unlink()
    elif fault == "not arrays":
        (folder / WEIGHTS_FILE).write_bytes(b"?")
    elif fault == "cut terms":
        (folder / VOCABULARY_FILE).write_bytes((folder / VOCABULARY_FILE).read_bytes()[:40])
    with pytest.raises(BenchmarkError, match=f"run: azeros panda-weights {folder}"):
        Panda.load(folder)


def test_the_checked_weights_are_the_golden_ones(golden: Path) -> None:
    assert Panda.load(golden / "benchmarks" / "tables").digest == CHECKED_DIGEST


def test_weights_that_do_not_fit_each_other_are_named() -> None:
    with pytest.raises(BenchmarkError, match=r"2 terms, idf \(2,\), coef \(4,\)"):
        Panda(["a", "b"], np.ones(2), np.ones(4), 0.0)
