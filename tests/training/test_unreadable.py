"""Recordings that cannot be read any more are left out, counted once, and known to a run that goes on."""

from pathlib import Path

import pytest
from lhotse import MonoCut, Recording
from lhotse.audio import AudioSource

from azeros.errors import AudioError
from azeros.training.unreadable import Unreadable


def lost(name: str) -> MonoCut:
    source = AudioSource("file", [0], f"gone/{name}.wav")
    return MonoCut(name, 0.0, 1.0, 0, recording=Recording(name, [source], 16000, 16000, 1.0))


def test_up_to_a_limit_they_are_left_out_also_by_a_run_that_goes_on(tmp_path: Path) -> None:
    unreadable = Unreadable(2, tmp_path / "ids.jsonl")
    for name in ("a", "\nb", "a"):
        assert unreadable.load(lost(name)) is None
    again = Unreadable(2, tmp_path / "ids.jsonl")
    assert again.ids == {"a", "\nb"}
    assert again.load(lost("a")) is None
    with pytest.raises(AudioError, match=r"cut c: .* 2 before it were left out"):
        again.load(lost("c"))
