"""Every command in a shell block of the documentation parses, and runs in a small finished run or says here why not."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import dropwhile
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from azeros.cli import app
from azeros.overrides import override, read_overrides
from azeros.params import load_params
from tests.conftest import ROOT
from tests.small import FEW
from tests.test_docs import ALL_PAGES, read

# What a command begins with -> why it is not run here. A test that is named does run it.
NOT_RUN = {
    "make run": "takes a quarter of an hour; `dvc repro` is run, on few utterances",
    "make test": "is what runs this",
    "source .venv/bin/activate": "the tests have their environment",
    "bentoml serve": "a server: tests/bento/test_service.py",
    "curl -F audio": "asks that server: tests/bento/test_service.py",
    "bentoml containerize": "needs Docker: tests/bento/test_build.py reads what it is given",
    "docker run": "needs Docker and that image",
    "prefect server start": "a server: tests/flows/test_pipeline.py",
    "python -m flows.pipeline": "starts a server, and with `serve` needs one: tests/flows/test_pipeline.py",
    "prefect work-pool": "asks that server",
    "prefect --no-prompt deploy": "asks that server",
    "prefect worker": "waits for that server's runs",
    "prefect deployment": "asks that server: tests/flows/test_pipeline.py",
    "MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui": "a server: docs/pictures.py",
    "dvc exp run": "trains for minutes",
    "python -m flows.ablation": "trains for minutes: tests/flows/test_ablation.py",
    "dvc remote add": "needs a bucket",
    "dvc push": "needs that remote",
    "dvc pull": "needs that remote",
    "azeros benchmark run qwen25-omni": "needs a GPU and the hub: tests/evaluation/systems/test_hearing.py",
    "azeros judge": "needs a judge and its key: tests/evaluation/judging/test_judge.py",
    "azeros score voicebench commoneval results/azeros/judged": "needs what that judge said: tests/evaluation/test_score.py",
}
# Those that say by an exit code that something is wrong, which here it is.
EXIT_CODES = {
    "azeros benchmark check voicebench bbh data/benchmarks/voicebench": 1,
    "azeros data check data/manifests/tiny": 1,
    "azeros doctor": 1,
}
OTHER_PROGRAMS = {"bentoml", "prefect", "mlflow", "source", "curl", "cat", "git", "docker"}
SMALL = FEW | {f"benchmark.data.{name}.num_rows": 2 for name in ("voicebench", "airbench")}


def commands_in(page: str) -> list[str]:
    """The lines of a page's shell blocks, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", read(page), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    bare = [" ".join(line.partition(" #")[0].split()) for line in lines]
    return [line for line in bare if line]


def reason(command: str) -> str | None:
    return next((why for begin, why in NOT_RUN.items() if command.startswith(begin)), None)


def simple_commands(line: str) -> list[list[str]]:
    """The words of each command that a line of shell is made of, without variables and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";&|"):
            found.append([])
        else:
            found[-1].append(word)
    bare = [words[: words.index(">")] if ">" in words else words for words in found]
    return [list(dropwhile(re.compile(r"[A-Z_]+=\S*").fullmatch, words)) for words in bare]


def fault(words: list[str]) -> str | None:
    """What is wrong with a command, as far as the program itself can tell without running it."""
    program, *arguments = words
    if program == "azeros":
        asked = CliRunner().invoke(app, [*arguments, "--help"])
        return asked.output if asked.exit_code else None
    if program == "dvc":
        return _fault_of_dvc(arguments)
    if program == "python" and arguments[0] == "-m":
        return None if importlib.util.find_spec(arguments[1]) else f"no module {arguments[1]}"
    if program == "python":
        return None if (ROOT / arguments[0]).exists() else f"no file {arguments[0]}"
    if program == "make":
        return None if f"\n{arguments[0]}:" in read("Makefile") else f"no target {arguments[0]}"
    return None if program in OTHER_PROGRAMS else f"unknown program {program}"


def _fault_of_dvc(arguments: list[str]) -> str | None:
    from dvc.cli import DvcParserError, parse_args

    try:
        parse_args(arguments)
    except DvcParserError:
        return "dvc knows no such command or option"
    return None


@pytest.mark.parametrize("page", ALL_PAGES)
def test_commands_and_their_options_exist(page: str) -> None:
    for line in commands_in(page):
        for words in simple_commands(line):
            assert fault(words) is None, (line, fault(words))


@pytest.mark.parametrize("page", ALL_PAGES)
def test_commands_named_in_a_sentence_exist(page: str) -> None:
    prose = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    for span in re.findall(r"`((?:azeros|dvc|python) [^`]+)`", prose.replace("\n", " ")):
        for words in simple_commands(span.replace("…", "")):
            assert fault(words) is None, (span, fault(words))


@pytest.mark.parametrize(
    "line",
    [
        "azeros no-such-command",
        "azeros sift tiny_s --shards=3",
        "dvc repro; azeros tiny make",
        "dvc repor",
        "dvc exp run --seed 3",
        "python -m flows.gone",
        "python benchmarks/gone.py",
        "azeross chat",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    assert any(fault(words) for words in simple_commands(line))


def test_settings_of_experiments_exist(tmp_path: Path) -> None:
    settings = [item for page in ALL_PAGES for item in re.findall(r"-S ([\w.@-]+=[^\s`)]+)", read(page))]
    assert settings
    path = shutil.copy(ROOT / "params.yaml", tmp_path)
    assert override(Path(path), read_overrides(settings)) != load_params(ROOT / "params.yaml")


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    fences = [
        (page, kind) for page in ALL_PAGES for kind in re.findall(r"^```(.*)\n", read(page), re.MULTILINE)
    ]
    kinds = {kind for _, kind in fences if kind}
    assert kinds == {"sh", "python", "yaml"}
    blocks = {
        page: re.findall(r"^```\n(.*?)^```$", _without_kinds(page), re.MULTILINE | re.DOTALL)
        for page in ALL_PAGES
    }
    drawings = [block for found in blocks.values() for block in found]
    assert len(drawings) == 2  # README's picture of the pipeline, and the tree
    assert not [
        line
        for block in drawings
        for line in block.splitlines()
        if reason(line) or line.startswith(("azeros ", "dvc "))
    ]


def _without_kinds(page: str) -> str:
    return re.sub(r"^```\w+\n.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def test_no_reason_outlives_its_command() -> None:
    commands = [command for page in ALL_PAGES for command in commands_in(page)]
    for begin, why in NOT_RUN.items():
        assert any(command.startswith(begin) for command in commands), begin
        for file in re.findall(r"\S+\.py", why):
            assert (ROOT / file).exists(), why
    assert EXIT_CODES.keys() <= set(commands)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this checkout as it is, in which `dvc repro` has run with few utterances and steps."""
    folder = tmp_path_factory.mktemp("finished") / "azeros"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\0"
    ):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    override(folder / "params.yaml", SMALL)
    shell("git init -q && git add -A && git commit -qm small && dvc repro && git commit -qam locked", folder)
    soundfile.write(
        folder / "speech.wav", *soundfile.read(folder / "data/manifests/tiny/audio/test-00002.flac")
    )
    return folder


def shell(line: str, folder: Path, exit_code: int = 0) -> None:
    """Run a line as a user would, with this environment's programs and the code in `folder`."""
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    environment |= {"BENTOML_HOME": str(folder / ".bentoml"), "MPLBACKEND": "agg"}
    environment |= {
        f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == exit_code, f"{line}\n{done.stdout[-4000:]}"


@pytest.mark.slow
def test_the_pipeline_runs_on_few_utterances(finished: Path) -> None:
    assert (finished / "reports" / "benchmark" / "leaderboard.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in ALL_PAGES if not all(map(reason, commands_in(page)))])
def test_a_page_runs_from_top_to_bottom(page: str, finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "azeros", symlinks=True)
    for command in commands_in(page):
        if not reason(command):
            shell(command, folder, EXIT_CODES.get(command, 0))
