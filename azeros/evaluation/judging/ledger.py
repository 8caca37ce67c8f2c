"""The ledger of judge calls: each answer stands under the hash of what was asked, so none is paid for twice."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from azeros.errors import BenchmarkError

LEDGER = Path("data/judgements.jsonl")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """One answer of a judge.

    Attributes:
        request: the body of the chat completion without `n`: model, messages, sampling.
        sample: which of the `n` answers, from 0.
        attempt: how many answers of this sample could not be read before.
        answer: as the judge gave it.
        served_model: what the endpoint says answered; a label like gpt-4o stands for different models over time.
        num_tokens: that the endpoint counted; of a call with several answers, all on the first.
    """

    request: dict[str, Any]
    sample: int
    attempt: int
    answer: str
    served_model: str | None
    num_tokens: int


def key_of(request: Mapping[str, Any], sample: int, attempt: int) -> str:
    """SHA-256 of what was asked."""
    return _hash([request, sample, attempt])


def _checksum(judgement: Judgement) -> str:
    """SHA-256 of what was asked and answered."""
    return _hash(asdict(judgement))


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Ledger:
    """Judgements in a file of JSON lines, one appended with each answer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._judgements = dict(_read(path)) if path.exists() else {}

    def __len__(self) -> int:
        return len(self._judgements)

    def find(self, request: Mapping[str, Any], sample: int, attempt: int) -> Judgement | None:
        """The judgement, if it is there."""
        return self._judgements.get(key_of(request, sample, attempt))

    def add(self, judgement: Judgement) -> None:
        """Append a judgement; when this returns, a kill loses nothing."""
        key = key_of(judgement.request, judgement.sample, judgement.attempt)
        fields = {"key": key, **asdict(judgement), "checksum": _checksum(judgement)}
        line = json.dumps(fields, ensure_ascii=False) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode(errors="backslashreplace"))  # half a character stays an escape
        self._judgements[key] = judgement


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """The ledger at `path`, which no other process may use meanwhile.

    A line that a kill cut short is removed.

    Raises:
        BenchmarkError: the ledger is in use, or a line of it is not what was written.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            _cut_torn_line(path)
            yield Ledger(path)
    except Timeout as error:
        raise BenchmarkError(
            f"{path}: another run is using it; wait for it, or give another ledger"
        ) from error


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        _log.warning("%s: its last line was cut short; asking for that judgement again", path)
        os.truncate(path, whole)


def _read(path: Path) -> Iterator[tuple[str, Judgement]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                fields = json.loads(line)
                key, checksum = fields.pop("key"), fields.pop("checksum")
                judgement = Judgement(**fields)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise BenchmarkError(f"{path}: line {number}: not a judgement; remove the line") from error
            if checksum != _checksum(judgement):
                raise BenchmarkError(
                    f"{path}: line {number}: was changed after it was written; remove the line"
                )
            yield key, judgement
