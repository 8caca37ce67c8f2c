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
from tests.conftest import ROOT

STAGES = ["prepare", "sift", "train", "evaluate", "package"]
TOOLS = {"chat", "tiny"}  # commands beside the pipeline
SHARED_SECTIONS = {"seed", "foundation", "corpora", "filter"}  # settings that several stages read

# Who may import whom, from the bottom up; azeros.cli starts stages and serving, and may import anything.
BASE = {"errors", "params", "work"}
MAY_IMPORT = {
    "errors": set(),
    "params": {"errors"},
    "work": {"errors"},
    "tracking": BASE,
    "model": BASE,
    "data": BASE | {"tiny"},
    "sift": BASE | {"data", "model"},
    "training": BASE | {"data", "model", "sift"},
    "evaluation": BASE | {"data", "model", "sift", "training"},
    "tiny": BASE | {"data", "model", "sift", "training", "evaluation"},
    "serving": BASE | {"data", "model"},
    "stages": BASE | {"tracking", "data", "model", "sift", "training", "evaluation", "tiny"},
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
    assert list(pipeline()) == STAGES
    assert commands == set(STAGES) | TOOLS
    assert Params.model_fields.keys() - SHARED_SECTIONS == set(STAGES)
    assert {path.stem for path in modules("azeros/stages")} - {"__init__"} == set(STAGES)


def test_commands_take_what_dvc_gives_them() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, stage in pipeline().items():
        program, subcommand, *arguments = str(stage["cmd"]).split()
        assert (program, subcommand) == ("azeros", name)
        wanted = [param for param in commands[name].params if param.param_type_name == "argument"]
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


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_only_the_settings_dvc_watches(name: str) -> None:
    """A section that dvc.yaml does not list would leave the stage fresh after a change."""
    watched = {str(entry).partition(".")[0] for entry in pipeline()[name]["params"]}  # type: ignore[attr-defined]
    tree = ast.parse((ROOT / "azeros" / "stages" / f"{name}.py").read_text(encoding="utf-8"))
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    assert run.args.args[0].arg == "params"
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    }
    assert read & set(Params.model_fields) <= watched


def test_imports_point_one_way() -> None:
    for path in modules("azeros"):
        home = path.relative_to(ROOT / "azeros").with_suffix("").parts[0]
        if home in ("cli", "__init__"):
            continue
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("azeros.")}
        assert ours <= MAY_IMPORT[home] | {home}, path
        assert not {name for name in imports(path) if name.split(".")[0] in ("flows", "bento")}, path


def test_flows_and_bento_import_nothing_below_stages_and_serving() -> None:
    for path in modules("flows"):
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & HEAVY_IN_FLOWS, path
        assert not [name for name in imports(path) if name.startswith("azeros.stages")], path
    for path in modules("bento"):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("azeros.")}
        assert ours <= {"serving", "errors", "params"}, path


def test_only_tracking_knows_mlflow() -> None:
    users = [
        path
        for path in modules("azeros", "flows", "bento")
        if any("mlflow" in name for name in imports(path))
    ]
    assert users == [ROOT / "azeros" / "tracking.py"]
