"""What comes twice is found as a dictionary would find it, and leaves no file."""

import random
import tempfile
from pathlib import Path

import pytest

from azeros.data.seen import Seen


def test_the_first_of_each_key() -> None:
    rng = random.Random(1)
    numbers = rng.choices(range(500), k=3000)
    keys: list[str | bytes] = [f"录音 {n}" if n % 2 else str(n).encode() for n in numbers]
    known: dict[str | bytes, str] = {}
    with Seen() as seen:
        for number, key in enumerate(keys):
            expected = known.get(key)
            known.setdefault(key, str(number))
            assert seen.first(key, str(number)) == expected


def test_no_file_is_left_even_while_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    with Seen() as seen:
        for number in range(100_000):
            seen.first(f"{number:064}")
        assert not list(tmp_path.iterdir())
