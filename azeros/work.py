"""Work that survives being killed: whole outputs, unfinished state keyed by its inputs, stable bytes."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pydantic import BaseModel

from azeros.errors import StageError

WORK_ROOT = Path(".work")
MODEL_CARD = "README.md"  # in the folder of a packaged model
_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
_CHUNK_BYTES = 1 << 20
_OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")
_DISK_FULL_WORDS = ("no space left on device", "disk is full", "disk quota exceeded")


@contextmanager
def stage_output(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` to write into; it becomes `path` once the block has succeeded.

    A failed block leaves `path` as it was. What a killed run left behind is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.partial"
    _remove(draft)
    draft.mkdir()
    try:
        yield draft
        _remove(path)
        draft.replace(path)
    finally:
        _remove(draft)


def link_or_copy(source: str, target: str) -> None:
    """For shutil.copytree: weights of gigabytes are linked where the file system lets them be."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def work_dir(stage: str, key: object) -> Path:
    """A folder for unfinished work, `.work/<stage>/<hash of key>`; `key` holds params and input hashes.

    The same key gives the same folder, so a killed stage goes on; another key starts anew.
    """
    folder = WORK_ROOT / stage / digest(key)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(key: object) -> str:
    """A short name for params and hashes of inputs."""
    return hashlib.sha256(to_json(key).encode()).hexdigest()[:16]


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of files, and of all files in folders, whatever their order.

    Raises:
        StageError: one of the paths is not there.
    """
    files = sorted((file, file.relative_to(root.parent)) for root in set(paths) for file in _files(root))
    content = hashlib.sha256()
    for file, name in files:
        content.update(f"{name.as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                content.update(chunk)
    return content.hexdigest()


def hash_model(folder: Path) -> str:
    """SHA-256 of a packaged model by which the registry, its run and its bento know it: `hash_files`, but for its card."""
    return hash_files(path for path in folder.iterdir() if path.name != MODEL_CARD)


def _files(root: Path) -> Iterator[Path]:
    if not root.exists():
        raise StageError(f"{root}: no such file or folder; run the stage that makes it, or dvc repro")
    return (path for path in root.rglob("*") if path.is_file()) if root.is_dir() else iter([root])


def to_json(value: object) -> str:
    """JSON with sorted keys and a final newline: equal values give equal bytes. NaN is a ValueError."""
    return (
        json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False, default=_plain)
        + "\n"
    )


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_json(path: Path, value: object) -> None:
    """Write `to_json(value)` as `write_text` does."""
    write_text(path, to_json(value))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 so that `path` holds either its old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def die_with_parent() -> None:
    """Have Linux send this process SIGTERM when its parent dies, and leave by SystemExit when it comes.

    A killed `dvc` would otherwise leave its stage running, and the next `dvc repro` start a second one on the
    same folder. Elsewhere than on Linux only the second half holds.
    """
    signal.signal(signal.SIGTERM, _leave)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _leave(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signal_number)


def is_running(pid: int) -> bool:
    """Whether a process is at work: not one that ended and stays listed, as in a container whose init collects none."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that the disk or the user's quota is used up."""
    # Libraries written in C and Rust raise types of their own and keep only the words.
    return any(
        (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT))
        or any(words in str(cause).lower() for words in _DISK_FULL_WORDS)
        for cause in _causes(error)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that the memory of the machine or of its GPU is used up."""
    return any(
        isinstance(cause, MemoryError) or any(words in str(cause).lower() for words in _OUT_OF_MEMORY_WORDS)
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def git(*arguments: str) -> str | None:
    """What git prints, without the last newline; None where it fails, is missing or takes ten seconds."""
    try:
        process = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() if process.returncode == 0 else None
