"""The official files' format, read against scikit-learn and joblib, who wrote it; nothing in them may run."""

import io
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from azeros.errors import BenchmarkError
from azeros.evaluation.voicebench.panda import Panda
from azeros.evaluation.voicebench.panda_files import CLASSIFIER, VECTORIZER, read_official
from tests.small import complaint, run

joblib = pytest.importorskip("joblib")
linear_model = pytest.importorskip("sklearn.linear_model")
text = pytest.importorskip("sklearn.feature_extraction.text")
sparse = pytest.importorskip("scipy.sparse")

TEXTS = ["the cat sat", "a dog ran far", "cat and dog", "paris is big", "london bridge fell"]
LABELS = ["correct", "incorrect", "correct", "incorrect", "correct"]


def joblib_dump(value: object) -> bytes:
    stream = io.BytesIO()
    joblib.dump(value, stream)
    return stream.getvalue()


WRITERS = {"joblib": joblib_dump} | {
    f"pickle {protocol}": partial(pickle.dumps, protocol=protocol) for protocol in range(6)
}


@pytest.fixture(scope="module")
def vectorizer() -> Any:
    return text.TfidfVectorizer().fit(TEXTS)


def fit(vectorizer: Any, labels: Any) -> Any:
    overlaps = np.random.default_rng(0).uniform(size=(len(TEXTS), 3))
    features = sparse.hstack([vectorizer.transform(TEXTS), overlaps])
    return linear_model.LogisticRegression().fit(features, labels)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("dtype", [str, object])
def test_numbers_come_out_as_they_went_in(vectorizer: Any, writer: str, dtype: type) -> None:
    model, write = fit(vectorizer, np.array(LABELS, dtype=dtype)), WRITERS[writer]
    panda = read_official(write(model), write(vectorizer))
    assert panda.terms == vectorizer.get_feature_names_out().tolist()
    np.testing.assert_array_equal(panda.idf, vectorizer.idf_)
    np.testing.assert_array_equal(panda.coef, model.coef_[0])
    assert panda.intercept == model.intercept_[0]


def test_older_versions_kept_idf_in_a_diagonal_and_columns_as_numpy_integers(vectorizer: Any) -> None:
    older = text.TfidfVectorizer().fit(TEXTS)
    older._tfidf._idf_diag = sparse.diags(older.idf_)
    del older._tfidf.idf_
    older.vocabulary_ = {term: np.int64(column) for term, column in older.vocabulary_.items()}
    panda = read_official(joblib_dump(fit(vectorizer, LABELS)), joblib_dump(older))
    assert panda.terms == vectorizer.get_feature_names_out().tolist()
    np.testing.assert_array_equal(panda.idf, vectorizer.idf_)


class Bomb:
    """Writes a file when it is unpickled the usual way."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_nothing_in_a_file_runs(vectorizer: Any, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    model = fit(vectorizer, LABELS)
    model.extra = Bomb(target)
    content = pickle.dumps(model)
    panda = read_official(content, pickle.dumps(vectorizer))
    assert panda.intercept == model.intercept_[0]
    assert not target.exists()
    pickle.loads(content)
    assert target.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>", "lr_classifier: not the pickle of a scikit-learn object"),
        (b"", "lr_classifier: not the pickle"),
        (pickle.dumps({"a": 1}), "lr_classifier: no coef_, intercept_, classes_ in it"),
        (pickle.dumps(text.TfidfVectorizer()), "lr_classifier: no coef_"),
    ],
)
def test_a_file_of_another_kind_is_named(vectorizer: Any, content: bytes, problem: str) -> None:
    with pytest.raises(BenchmarkError, match=problem):
        read_official(content, pickle.dumps(vectorizer))


def test_swapped_classes_and_a_cut_file_are_named(vectorizer: Any) -> None:
    swapped = fit(vectorizer, ["right" if label == "correct" else "wrong" for label in LABELS])
    with pytest.raises(BenchmarkError, match=r"classes \['right', 'wrong'\]"):
        read_official(pickle.dumps(swapped), pickle.dumps(vectorizer))
    content = joblib_dump(fit(vectorizer, LABELS))
    with pytest.raises(BenchmarkError, match="not the pickle"):
        read_official(content[: len(content) // 2], joblib_dump(vectorizer))


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which a web server shows it."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_command_fetches_both_files_and_keeps_arrays(
    vectorizer: Any, mirror: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = mirror
    output = tmp_path / "panda"
    (folder / CLASSIFIER).write_bytes(joblib_dump(fit(vectorizer, LABELS)))
    failed = run("panda-weights", str(output), "--source", address)
    assert "give a mirror of the folder with --source" in complaint(failed.stderr)
    assert not output.exists()
    (folder / VECTORIZER).write_bytes(joblib_dump(vectorizer))
    result = run("panda-weights", str(output), "--source", address)
    assert result.exit_code == 0, result.stderr
    assert f"NOT the weights of 2024-10-30, SHA-256 {Panda.load(output).digest}" in result.stdout
