"""Recordings that cannot be read any more are left out, counted once, and known to a run that goes on."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from lhotse import MonoCut, Recording
from lhotse.audio import AudioSource
from lhotse.cut import Cut

from azeros.errors import AudioError
from azeros.training import unreadable
from azeros.training.unreadable import Unreadable


def lost(name: str) -> MonoCut:
    source = AudioSource("file", [0], f"gone/{name}.wav")
    return MonoCut(name, 0.0, 1.0, 0, recording=Recording(name, [source], 16000, 16000, 1.0))


def test_up_to_a_limit_they_are_left_out_also_by_a_run_that_goes_on(tmp_path: Path) -> None:
    first = Unreadable(2, tmp_path / "ids.jsonl")
    for name in ("a", "\nb", "a"):
        assert first.load(lost(name)) is None
    again = Unreadable(2, tmp_path / "ids.jsonl")
    assert again.ids == {"a", "\nb"}
    assert again.load(lost("a")) is None
    with pytest.raises(AudioError, match=r"cut c: .* 2 before it were left out"):
        again.load(lost("c"))


def test_threads_that_fail_together_leave_out_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Barrier(8)

    def fail(cut: Cut) -> None:
        together.wait()
        raise AudioError(f"cut {cut.id}: gone")

    monkeypatch.setattr(unreadable, "load_cut", fail)
    left_out = Unreadable(3)
    with ThreadPoolExecutor(8) as threads:
        loads = [threads.submit(left_out.load, lost(str(number))) for number in range(8)]
    assert sorted(load.exception() is None for load in loads) == [False] * 5 + [True] * 3
    assert len(left_out.ids) == 3
