"""PEDANT's official weight files: fetched once, and read without running anything that stands in them.

They are pickles of scikit-learn objects, written by joblib: loading them the usual way runs what they say. Here each
object comes out as a record of its class's name, its arguments and its state.
"""

from __future__ import annotations

import io
import pickle
import urllib.request
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from azeros.errors import BenchmarkError
from azeros.evaluation.voicebench.panda import Panda
from azeros.progress import track
from azeros.work import stage_output

OFFICIAL_SOURCE = "https://github.com/zli12321/qa_metrics/raw/master/qa_metrics/classifier"
CLASSIFIER, VECTORIZER = "lr_classifier", "tf-idf_vectorizer"
_TIMEOUT_S = 60
_CHUNK_BYTES = 1 << 16


def fetch(folder: Path, source: str = OFFICIAL_SOURCE) -> Panda:
    """Fetch the two files from `source`, a URL, and keep their numbers in `folder` as plain arrays.

    Raises:
        BenchmarkError: a file cannot be fetched or is not laid out as expected.
    """
    files = {name: _download(f"{source.rstrip('/')}/{name}") for name in (CLASSIFIER, VECTORIZER)}
    panda = read_official(files[CLASSIFIER], files[VECTORIZER])
    with stage_output(folder) as draft:
        panda.save(draft)
    return panda


def _download(url: str) -> bytes:
    chunks = []
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply:
            size = int(reply.headers.get("Content-Length") or 0)
            with track(url.rsplit("/", 1)[-1], size) as advance:
                while chunk := reply.read(_CHUNK_BYTES):
                    chunks.append(chunk)
                    advance(len(chunk))
    except (OSError, ValueError, HTTPException) as error:
        raise BenchmarkError(
            f"{url}: cannot be fetched ({error}); give a mirror of the folder with --source"
        ) from error
    return b"".join(chunks)


def read_official(classifier: bytes, vectorizer: bytes) -> Panda:
    """The numbers in a pickled scikit-learn LogisticRegression and TfidfVectorizer.

    Raises:
        BenchmarkError: a file is not such a pickle.
    """
    model = _state(_read(CLASSIFIER, classifier), CLASSIFIER, ("coef_", "intercept_", "classes_"))
    labels = _array(model["classes_"]).tolist()
    if labels != ["correct", "incorrect"]:
        raise BenchmarkError(
            f"{CLASSIFIER}: classes {labels}, not ['correct', 'incorrect']; give the official files"
        )
    tfidf = _state(_read(VECTORIZER, vectorizer), VECTORIZER, ("vocabulary_", "_tfidf"))
    columns = {term: _integer(column) for term, column in tfidf["vocabulary_"].items()}
    return Panda(
        terms=sorted(columns, key=columns.__getitem__),
        idf=_idf(tfidf["_tfidf"]),
        coef=_array(model["coef_"]).astype(np.float64).ravel(),
        intercept=float(_array(model["intercept_"]).item()),
    )


def _idf(transformer: Any) -> NDArray[np.float64]:
    """(V,): an array in newer versions of scikit-learn, the diagonal of a sparse matrix in older ones."""
    state = transformer.state
    values = state["idf_"] if "idf_" in state else _state(state["_idf_diag"], VECTORIZER, ("data",))["data"]
    return _array(values).astype(np.float64).ravel()


class Record:
    """What an object of a pickle would have been made from; making it is left out."""

    name: ClassVar[str]
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Record:
        """Keep the arguments; nothing is called with them."""
        record = super().__new__(cls)
        record.arguments, record.state = arguments, None
        return record

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _RecordUnpickler(pickle._Unpickler):
    """Python's own unpickler with a record for every class and function, and joblib's arrays read from between."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._file = file

    def find_class(self, module_name: str, global_name: str) -> Any:
        """A class of records in place of what is named."""
        return type(global_name, (Record,), {"name": f"{module_name}.{global_name}"})

    def load_build(self) -> None:
        """As the base does; joblib then has the array itself, outside the pickle."""
        super().load_build()  # type: ignore[misc]
        built = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(built, Record) and built.name == "joblib.numpy_pickle.NumpyArrayWrapper":
            self.stack[-1] = _read_joblib_array(self._file, built.state)  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build


def _read(name: str, content: bytes) -> Any:
    try:
        return _RecordUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle can fail in any way
        raise BenchmarkError(
            f"{name}: not the pickle of a scikit-learn object ({error!r}); is it the official file?"
        ) from error


def _read_joblib_array(file: io.BytesIO, wrapper: dict[str, Any]) -> NDArray[Any]:
    dtype = _dtype(wrapper["dtype"])
    if dtype.hasobject:
        return _array(_RecordUnpickler(file).load())
    if wrapper.get("numpy_array_alignment_bytes") is not None:
        file.read(file.read(1)[0])  # padding, and its length before it
    count = int(np.prod(wrapper["shape"], dtype=np.int64))
    values = np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype, count=count)
    return values.reshape(wrapper["shape"], order=wrapper["order"])


def _state(record: Any, name: str, wanted: Iterable[str]) -> dict[str, Any]:
    state = record.state if isinstance(record, Record) else None
    missing = [key for key in wanted if not isinstance(state, dict) or key not in state]
    if missing:
        raise BenchmarkError(f"{name}: no {', '.join(missing)} in it; is it the official file?")
    return state  # type: ignore[return-value]


def _dtype(record: Record) -> np.dtype[Any]:
    byte_order = record.state[1] if record.state else "|"
    return np.dtype(record.arguments[0]).newbyteorder(byte_order)


def _array(value: Any) -> NDArray[Any]:
    """An array from what numpy's own pickling keeps: shape, dtype and bytes."""
    if isinstance(value, np.ndarray):
        return value
    if value.name.endswith("._frombuffer"):
        data, dtype, shape, order = value.arguments
        return np.frombuffer(data, _dtype(dtype)).reshape(shape, order=order)
    _, shape, dtype, fortran_order, data = value.state
    if isinstance(data, list):
        return np.array(data, dtype=object).reshape(shape)
    return np.frombuffer(_bytes(data), _dtype(dtype)).reshape(shape, order="F" if fortran_order else "C")


def _bytes(data: Any) -> bytes:
    """Bytes, which pickles of protocol 2 hold as a text and its encoding."""
    return data if isinstance(data, bytes) else data.arguments[0].encode(data.arguments[1])


def _integer(value: Any) -> int:
    """A Python or a numpy integer."""
    if isinstance(value, int):
        return value
    dtype, data = value.arguments
    return int(np.frombuffer(_bytes(data), _dtype(dtype)).item())
