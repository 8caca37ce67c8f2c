"""The pipeline at its smallest: the repository's settings with few utterances and steps, and the `azeros` command."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
from lhotse import MonoCut, SupervisionSegment
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from azeros.cli import app
from tests.conftest import ROOT

FEW: dict[str, object] = {
    "corpora.tiny.num_train": 60,
    "corpora.tiny.num_validation": 10,
    "corpora.tiny.num_test": 10,
}
for stage in ("train.stage1", "train.stage2"):
    FEW |= {f"{stage}.num_steps": 40, f"{stage}.batch_size": 4}
    FEW |= {f"{stage}.log_every_steps": 20, f"{stage}.checkpoint_every_steps": 4}
    FEW[f"{stage}.validation"] = {"every_steps": 40, "num_cuts": 4, "num_answers": 2, "patience": None}
_PATIENCE_S = 120


def write_params(path: Path, update: Mapping[str, object]) -> Path:
    """Write the repository's params.yaml to `path`, its paths made absolute, the values at dotted keys changed."""
    document = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    benchmarks = document["benchmark"]["data"].values()
    for section in (*document["foundation"].values(), *document["corpora"].values(), *benchmarks):
        section["path"] = str(ROOT / section["path"])
    for key, value in update.items():
        *sections, name = key.split(".")
        reduce(getitem, sections, document)[name] = value
    with path.open("w", encoding="utf-8") as stream:
        YAML(pure=True).dump(document, stream)
    return path


def make_cut(name: str, text: str | None, duration_s: float = 3.0, language: str = "en") -> MonoCut:
    """A cut of one utterance by a sad woman."""
    said = SupervisionSegment(
        name, name, 0.0, duration_s, text=text, language=language, gender="female", custom={"emotion": "sad"}
    )
    return MonoCut(name, 0.0, duration_s, channel=0, supervisions=[said])


def run(*arguments: str) -> Result:
    """Run `azeros` with `arguments` in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("azeros.cli.die_with_parent", lambda: None)
        return CliRunner().invoke(app, list(arguments))


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start `azeros` with `arguments` in a process of its own."""
    command = [sys.executable, "-c", "from azeros.cli import app; app()", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=_heed_interrupts
    )


def _heed_interrupts() -> None:
    """A shell that runs the tests in the background has them, and all that they start, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(pattern: str, process: subprocess.Popen[str]) -> None:
    """Wait until `process` has made a file that matches `pattern`."""
    deadline = time.monotonic() + _PATIENCE_S
    while not list(Path().glob(pattern)):
        assert process.poll() is None, f"ended before it made {pattern}: {process.communicate()[1]}"
        assert time.monotonic() < deadline, f"no {pattern} after {_PATIENCE_S} s"
        time.sleep(0.005)


def complaint(stderr: str) -> str:
    """The one line in which `azeros` says what is wrong, behind whatever progress it showed."""
    assert "Traceback" not in stderr, stderr
    *progress, last = stderr.splitlines()
    assert last.startswith("azeros: "), stderr
    assert not any(line.startswith("azeros: ") for line in progress), stderr
    return last


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in `folder`."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
