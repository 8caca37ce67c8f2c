"""The same stage words everywhere, imports that point one way, and a pipeline that names what exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from azeros.cli import app
from azeros.params import Params
from azeros.stage_command import StageAndTools
from tests.conftest import ROOT

STAGES = ["prepare", "sift", "train", "evaluate", "package", "benchmark"]
# In dvc.yaml beside them: it describes the data, has no settings of its own, and runs a tool, `azeros data card`.
CARD = "card"
# Commands beside the pipeline.
TOOLS = {
    "chat",
    "data",
    "doctor",
    "export",
    "judge",
    "leaderboard",
    "lineage",
    "override",
    "panda-weights",
    "plan",
    "release",
    "score",
    "tiny",
}
SHARED_SECTIONS = {
    "seed",
    "commercial",
    "foundation",
    "corpora",
    "filter",
    "release",
}  # what no stage has to itself

# Who may import whom, from the bottom up; azeros.cli starts stages and serving, and may import anything.
BASE = {"device", "errors", "overrides", "params", "progress", "stage_command", "work"}
MAY_IMPORT = {
    "__main__": {"cli"},
    "errors": set(),
    "device": set(),
    "progress": set(),
    "stage_command": set(),
    "params": {"errors"},
    "endpoint": {"errors", "params"},
    "receipts": {"work"},
    "plan": BASE | {"model", "foundation", "receipts", "stages", "training"},
    "overrides": {"errors", "params"},
    "work": {"errors"},
    "journal": {"errors", "work"},
    "tracking": BASE | {"journal"},
    "doctor": BASE | {"tracking", "tiny"},
    "registry": {"errors", "tracking"},
    "release": {"errors", "params", "work", "registry", "data"},
    "model": BASE,
    "foundation": BASE | {"model"},
    "data": BASE | {"tiny"},
    "sift": BASE | {"endpoint", "data", "model"},
    "training": BASE | {"data", "model", "sift"},
    "evaluation": BASE | {"endpoint", "data", "model", "sift", "training"},
    "tiny": BASE | {"data", "model", "sift", "training", "evaluation"},
    "serving": BASE | {"data", "model", "tiny"},
    "stages": BASE
    | {"receipts", "tracking", "data", "model", "sift", "training", "evaluation", "tiny", "foundation"},
}
# Reading and featurising sound needs nothing else of ours: the model does it for whoever hands it recordings.
SOUND = ("azeros.data.audio", "azeros.data.features")
# A change in these does not change what a stage makes; dvc.yaml leaves them out.
PLUMBING = {
    "__init__",
    "device",
    "endpoint",
    "errors",
    "journal",
    "overrides",
    "params",
    "progress",
    "receipts",
    "stage_command",
    "tracking",
    "work",
}
HEAVY_IN_FLOWS = {"torch", "transformers", "lhotse", "mlflow"}

Pipeline = dict[str, dict[str, object]]


def pipeline() -> Pipeline:
    document = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return {name: stage.get("do", stage) for name, stage in document["stages"].items()}


def modules(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from (ROOT / package).rglob("*.py")


def imports(path: Path) -> set[str]:
    """Full names that a file imports, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_stage_words_are_the_same_everywhere() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert [name for name in pipeline() if name != CARD] == STAGES
    assert commands == set(STAGES) | TOOLS
    assert Params.model_fields.keys() - SHARED_SECTIONS == set(STAGES)
    assert {path.stem for path in modules("azeros/stages")} - {"__init__"} == set(STAGES)


def test_commands_take_what_dvc_gives_them() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, stage in pipeline().items():
        before, program, subcommand, *arguments = str(stage["cmd"]).split()
        assert (before, program, subcommand) == ("exec", "azeros", "data" if name == CARD else name)
        command = commands[subcommand]
        if name == CARD:
            command = command.commands[arguments.pop(0)]
        if isinstance(command, StageAndTools):
            command = command.commands[command.STAGE]
        wanted = [param for param in command.params if param.param_type_name == "argument"]
        assert len(arguments) == len(wanted)


def test_paths_of_a_command_stand_in_its_deps_or_outs() -> None:
    for stage in pipeline().values():
        known = [str(path) for key in ("deps", "outs") for path in stage[key]]  # type: ignore[attr-defined]
        for path in (word for word in str(stage["cmd"]).split() if "/" in word or word.startswith("${item.")):
            assert any(other == path or other.startswith(f"{path}/") for other in known), path


def test_code_that_a_stage_depends_on_exists() -> None:
    for stage in pipeline().values():
        for path in re.findall(r"'(azeros/[^']*)'", str(stage["deps"])):
            assert (ROOT / path).exists(), path


def source_of(name: str) -> Path | None:
    """The file of `azeros.a.b`, or of `azeros.a` where b is a name in it."""
    whole = ROOT.joinpath(*name.split("."))
    candidates = (f for p in (whole, whole.parent) for f in (p.with_suffix(".py"), p / "__init__.py"))
    return next((file for file in candidates if file.exists()), None)


def reached_from(path: Path, reached: set[Path]) -> set[Path]:
    """Adds to `reached` every file of azeros that `path` imports, directly or not."""
    for name in sorted(imports(path)):
        source = source_of(name) if name.startswith("azeros.") else None
        if source and source not in reached:
            reached.add(source)
            reached_from(source, reached)
    return reached


def code_of(name: str) -> Path:
    """The file that a stage of dvc.yaml runs."""
    return ROOT / "azeros" / ("data/card.py" if name == CARD else f"stages/{name}.py")


@pytest.mark.parametrize("name", [*STAGES, CARD])
def test_dvc_watches_the_code_a_stage_runs(name: str) -> None:
    """Code that dvc.yaml does not list would leave the stage fresh after a change."""
    watched = [str(path) for path in pipeline()[name]["deps"]]  # type: ignore[attr-defined]
    for source in reached_from(code_of(name), set()):
        place = source.relative_to(ROOT).as_posix()
        if source.parent != ROOT / "azeros" or source.stem not in PLUMBING:
            assert any(place == path or place.startswith(f"{path}/") for path in watched), place


@pytest.mark.parametrize("name", [*STAGES, CARD])
def test_dvc_watches_the_settings_a_stage_reads(name: str) -> None:
    watched = {str(entry).partition(".")[0] for entry in pipeline()[name]["params"]}  # type: ignore[attr-defined]
    stage = code_of(name)
    code = ast.parse(stage.read_text(encoding="utf-8"))
    run = next(
        node for node in code.body if isinstance(node, ast.FunctionDef) and node.name in ("run", "write_card")
    )
    assert run.args.args[0].arg == "params"
    reached = reached_from(stage, {stage})
    assert set().union(*map(settings_read, reached)) <= watched


def settings_read(path: Path) -> set[str]:
    """Sections that a file takes from a variable called `params`, if that is all of params.yaml."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    whole = any(
        isinstance(n, ast.arg) and n.arg == "params" and _names(n.annotation) == "Params" for n in nodes
    )
    attributes = [n for n in nodes if isinstance(n, ast.Attribute) and _names(n.value) == "params"]
    return {n.attr for n in attributes} & set(Params.model_fields) if whole else set()


def _names(node: ast.AST | None) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def test_imports_point_one_way() -> None:
    for path in modules("azeros"):
        home = path.relative_to(ROOT / "azeros").with_suffix("").parts[0]
        if home in ("cli", "__init__"):
            continue
        names = {name for name in imports(path) if not (home == "model" and name.startswith(SOUND))}
        ours = {name.split(".")[1] for name in names if name.startswith("azeros.")}
        assert ours <= MAY_IMPORT[home] | {home}, path
        assert not {name for name in imports(path) if name.split(".")[0] in ("flows", "bento")}, path


def test_flows_and_bento_import_nothing_below_stages_and_serving() -> None:
    for path in modules("flows"):
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & HEAVY_IN_FLOWS, path
        assert not [name for name in imports(path) if name.startswith("azeros.stages")], path
    for path in modules("bento"):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("azeros.")}
        assert ours <= {"serving", "errors", "params", "work"}, path


def test_only_tracking_and_registry_know_mlflow() -> None:
    users = {
        path.stem
        for path in modules("azeros", "flows", "bento")
        if any("mlflow" in name for name in imports(path))
    }
    assert users == {"tracking", "registry", "journal"}
