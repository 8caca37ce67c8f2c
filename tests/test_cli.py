"""The command line: quick, one clear line for what the user can mend, an exit code that tells."""

import errno
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from azeros.cli import app
from azeros.errors import CorpusError
from tests import small
from tests.conftest import ROOT
from tests.small import complaint, write_params

PREPARE = ["prepare", "tiny", "out", "--params", str(ROOT / "params.yaml")]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands in for the prepare stage and fails with its `error`."""
    stage = ModuleType("azeros.stages.prepare")

    def fail(*_: object) -> None:
        raise stage.error

    stage.run = fail  # type: ignore[attr-defined]
    import azeros.stages

    monkeypatch.setitem(sys.modules, stage.__name__, stage)
    monkeypatch.setattr(azeros.stages, "prepare", stage, raising=False)
    monkeypatch.setattr("azeros.cli.die_with_parent", lambda: None)
    return stage


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (CorpusError("a.wav:\n empty; remove it"), 1, "azeros: a.wav: empty; remove it\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the disk is full"),
        (KeyboardInterrupt(), 130, "azeros: interrupted"),
        (ModuleNotFoundError("No module", name="lhotse"), 1, "azeros: package 'lhotse' is not installed"),
    ],
)
def test_a_failure_is_one_line_and_a_code(
    failing: ModuleType, error: Exception, exit_code: int, line: str
) -> None:
    failing.error = error  # type: ignore[attr-defined]
    result = run(*PREPARE)
    assert result.exit_code == exit_code
    assert line in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), ModuleNotFoundError("bug", name="azeros.x")])
def test_a_bug_keeps_its_traceback(failing: ModuleType, error: Exception) -> None:
    failing.error = error  # type: ignore[attr-defined]
    assert run(*PREPARE).exception is error


def test_wrong_params_stop_a_stage_before_it_loads(tmp_path: Path) -> None:
    result = run("prepare", "tiny", "out", "--params", str(tmp_path / "none.yaml"))
    assert result.exit_code == 1
    assert "give the path of a params.yaml" in result.stderr


@pytest.mark.parametrize(
    ("update", "line"),
    [
        ({"train.stage1.num_step": 5}, "unknown key 'train.stage1.num_step' (value 5)"),
        ({"sift.max_new_tokens": "64"}, "'sift.max_new_tokens' is \"64\": input should be a valid integer"),
        ({"evaluate.batch_size": 0}, "'evaluate.batch_size' is 0: input should be greater than"),
        ({"train.stage1.sets": {"tiny": 1.0}}, "train.stage1.sets: no 'tiny' in sift.sets"),
    ],
)
@pytest.mark.parametrize("command", ["prepare tiny out", "train stage1 in in out", "package in out"])
def test_a_wrong_setting_is_named(tmp_path: Path, update: dict[str, object], line: str, command: str) -> None:
    path = write_params(tmp_path / "params.yaml", update)
    result = small.run(*command.split(), "--params", str(path))
    assert result.exit_code == 1
    assert complaint(result.stderr).startswith(f"azeros: {path}: {line}")


@pytest.mark.parametrize("fault", ["no folder", "no metadata", "no sound"])
def test_a_corpus_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:/dev/null/nowhere")
    corpus = {"recipe": "folder", "path": "wavs", "language": "en"}
    write_params(tmp_path / "params.yaml", {"corpora.mine": corpus})
    if fault != "no folder":
        Path("wavs").mkdir()
    if fault == "no sound":
        Path("wavs/metadata.csv").write_text("file_name,text\na.wav,hello\nb.wav,you\n")
        Path("wavs/a.wav").touch()
        Path("wavs/b.wav").write_bytes(b"no sound")
    said = {
        "no folder": "azeros: wavs: no such folder; correct the corpus's path",
        "no metadata": "azeros: wavs: no metadata.csv or metadata.jsonl in it; write one",
        "no sound": "azeros: corpus mine: 2 of 2 rows rejected (1 audio empty, 1 audio unreadable)",
    }
    result = small.run("prepare", "mine", "out")
    assert result.exit_code == 1
    assert complaint(result.stderr).startswith(said[fault])
    assert not Path("out").exists()


def test_an_unknown_training_stage_is_a_usage_error() -> None:
    assert run("train", "stage3", "a", "b", "c").exit_code == 2


def commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The words of every command that a user sees, groups too."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from commands(inner, *path, name)


@pytest.mark.parametrize("words", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_help_ends_with_an_example_that_parses(words: tuple[str, ...]) -> None:
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    _, _, examples = str(command.epilog).partition(": ")
    mine = [example.partition(" (")[0] for example in examples.split("; ") if example.startswith("azeros ")]
    assert mine
    for example in mine:
        own = shlex.split(example)[1:]
        assert tuple(own[: len(words)]) == words
        result = run(*own, "--help")
        assert result.exit_code == 0, result.output


def test_a_shell_completes_commands() -> None:
    words = {"_AZEROS_COMPLETE": "complete_bash", "COMP_WORDS": "azeros sift re", "COMP_CWORD": "2"}
    result = CliRunner().invoke(app, [], prog_name="azeros", env=words)
    assert result.stdout.split() == ["render"]
    assert "--install-completion" in run("--help").stdout


def test_a_stage_with_tools_is_still_a_stage(tmp_path: Path) -> None:
    gone = tmp_path / "none.yaml"
    for arguments in (
        ("tiny_s", "in", "out", "--params", str(gone)),
        ("--params", str(gone), "tiny_s", "in", "out"),
    ):
        result = small.run("sift", *arguments)
        assert result.exit_code == 1
        assert complaint(result.stderr).startswith(f"azeros: {gone}: No such file")
    assert "SET MANIFESTS OUTPUT | TOOL" in run("sift", "--help").stdout
    assert "Example: azeros sift render " in run("sift", "render", "--help").stdout


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import json, sys; from typer.testing import CliRunner; from azeros.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; print(json.dumps(list(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"torch", "transformers", "lhotse", "mlflow", "prefect", "bentoml", "dvc", "numpy", "matplotlib"}
    assert not heavy & set(json.loads(result.stdout))


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (["train", "stage1", "m", "t", "out"], "lower train.*.micro_batch_size"),
        (["sift", "tiny_s", "m", "out"], "lower sift.backend.batch_size"),
        (["prepare", "tiny", "out"], "free some and run the same command again"),
    ],
)
def test_too_little_memory_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, command: list[str], remedy: str
) -> None:
    monkeypatch.setattr("azeros.cli.die_with_parent", lambda: None)
    monkeypatch.setattr(f"azeros.stages.{command[0]}.run", lambda *_: torch.empty(2**50))
    result = run(*command, "--params", str(ROOT / "params.yaml"))
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "not enough memory (" in result.stderr
    assert remedy in result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_real_full_disk_ends_in_one_line(failing: ModuleType) -> None:
    def fill(*_: object) -> None:
        with open("/dev/full", "w") as device:
            device.write("x")

    failing.run = fill  # type: ignore[attr-defined]
    result = run(*PREPARE)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "free space and run the same command again" in result.stderr
