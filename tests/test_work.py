"""Outputs appear whole or not at all, unfinished work is found again, and bytes are stable."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from azeros.errors import StageError
from azeros.work import hash_files, is_disk_full, is_running, stage_output, to_json, work_dir, write_json
from tests.conftest import ROOT


def test_output_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a" / "out"
    with stage_output(path) as draft:
        (draft / "x").write_text("1")
        assert not path.exists()
    assert (path / "x").read_text() == "1"
    assert os.listdir(path.parent) == ["out"]


def test_a_failed_block_leaves_the_old_output(tmp_path: Path) -> None:
    with stage_output(tmp_path / "out") as draft:
        (draft / "x").write_text("old")
    with pytest.raises(IsADirectoryError), stage_output(tmp_path / "out") as draft:  # noqa: PT012
        (draft / "x").write_text("new")
        draft.write_text("a folder cannot be written")
    assert (tmp_path / "out" / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_output_replaces_all_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale").touch()
    with stage_output(tmp_path / "out") as draft:
        (draft / "fresh").touch()
    assert os.listdir(tmp_path / "out") == ["fresh"]


def test_what_a_killed_run_left_is_not_mixed_in(tmp_path: Path) -> None:
    script = (
        "import sys, os, signal; from pathlib import Path; from azeros.work import stage_output\n"
        "with stage_output(Path(sys.argv[1])) as draft:\n"
        "    (draft / 'left').touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    out = tmp_path / "out"
    assert subprocess.run([sys.executable, "-c", script, out], cwd=ROOT).returncode == -signal.SIGKILL
    assert not out.exists()
    with stage_output(out) as draft:
        (draft / "whole").touch()
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == ["whole"]


def test_work_dir_is_found_again_by_equal_keys_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = work_dir("train", {"seed": 1, "sets": {"a": 1, "b": 2}})
    (first / "checkpoint").touch()
    assert work_dir("train", {"sets": {"b": 2, "a": 1}, "seed": 1}) == first
    assert work_dir("train", {"sets": {"b": 2, "a": 1}, "seed": 2}) != first
    assert work_dir("sift", {"seed": 1, "sets": {"a": 1, "b": 2}}) != first
    assert first.is_relative_to(".work/train")


def test_hash_files_sees_names_contents_and_boundaries(tmp_path: Path) -> None:
    def digest(**files: str) -> str:
        folder = tmp_path / str(len(os.listdir(tmp_path))) / "in"
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        return hash_files([folder])

    assert digest(a="1", b="2") == digest(b="2", a="1")
    assert len({digest(a="1"), digest(a="2"), digest(b="1"), digest(a="1", b=""), digest(a="1b0")}) == 5


def test_hash_files_does_not_depend_on_order_or_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_text("1")
        (tmp_path / folder / "b").write_text("2")
    one, two = ([tmp_path / folder / name for name in "ab"] for folder in ("one", "two"))
    assert hash_files(one) == hash_files(reversed(two))


def test_hash_files_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"gone: no such file or folder; run the stage that makes it"):
        hash_files([tmp_path, tmp_path / "gone"])


def test_json_bytes_are_stable_and_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "x.json", {"b": [1.5, None], "a": "你好", "p": Path("q/r")})
    assert (tmp_path / "deep" / "x.json").read_text(encoding="utf-8") == (
        '{\n  "a": "你好",\n  "b": [\n    1.5,\n    null\n  ],\n  "p": "q/r"\n}\n'
    )
    assert to_json({"b": 1, "a": 2}) == to_json({"a": 2, "b": 1})


def test_json_without_a_meaning_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))
    assert (tmp_path / "x.json").read_text() == "1\n"
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("text", ["[Errno 28] No space left on device", "database or disk is full"])
def test_disk_full_is_seen_through_libraries(text: str) -> None:
    error = RuntimeError("cannot write")
    error.__cause__ = ValueError(text)
    assert is_disk_full(error)
    assert is_disk_full(OSError(errno.ENOSPC, "?"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_stage_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    child = (
        "import os, time; from azeros.work import die_with_parent; die_with_parent()\n"
        "open('child', 'w').write(str(os.getpid()))\n"
        "try: time.sleep(60)\n"
        "finally: open('tidied', 'w')\n"
    )
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", parent, child], cwd=tmp_path, env=environment)
    _wait_for(tmp_path / "child")
    process.kill()
    process.wait()
    _wait_for(tmp_path / "tidied")


def test_a_process_that_ended_does_not_run_though_nobody_collects_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_running(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.kill(process.pid, 0)  # it is still listed
        assert not is_running(process.pid)
    assert not is_running(process.pid)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() or (path.name == "child" and not path.read_text()):
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)
