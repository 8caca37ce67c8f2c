"""The documentation: its Python runs, each page from top to bottom; its links, commands, settings and tests exist."""

import ast
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from ruamel.yaml import YAML

from azeros.data.manifests import read_cuts
from azeros.model.speech_llm import AZerosModel
from azeros.overrides import override
from azeros.params import load_params
from tests.conftest import ROOT
from tests.small import run, write_params

PAGES = ["README.md", "docs/model.md", "docs/extending.md"]
ALL_PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(page)):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", ALL_PAGES)
def test_files_and_tests_that_are_named_exist(page: str) -> None:
    for name in re.findall(
        r"`((?:azeros|tests|flows|bento|benchmarks|docs)/[\w./]+\.\w+(?:::\w+)?)`", read(page)
    ):
        file, _, function = name.partition("::")
        assert (ROOT / file).exists(), name
        if function:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def settings_in(page: str) -> list[dict[str, Any]]:
    """The YAML blocks of a page."""
    blocks = re.findall(r"```yaml\n(.*?)```", read(page), re.DOTALL)
    return [YAML(typ="safe", pure=True).load(block) for block in blocks]


def dotted(settings: dict[str, Any], path: Path, prefix: str = "") -> dict[str, Any]:
    """Settings as overrides of those in `path`: what stands in both is a section, what does not is an entry."""
    known = load_params(path).model_dump()
    for key in prefix.split(".")[:-1]:
        known = known[key]
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, dict) and "." not in key and key in known
        found |= dotted(value, path, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize("page", [page for page in ALL_PAGES if settings_in(page)])
def test_settings_are_valid(page: str, tmp_path: Path) -> None:
    for settings in settings_in(page):
        path = write_params(tmp_path / "params.yaml", {})
        before = load_params(path)
        assert override(path, dotted(settings, path)) != before


@pytest.mark.slow
def test_own_recordings_are_prepared_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("recordings").mkdir()
    wave = 0.1 * np.random.default_rng(1).normal(size=16000)
    for name in ("a", "b"):
        soundfile.write(f"recordings/{name}.wav", wave[: -160 if name == "b" else None], 16000)
    Path("recordings/metadata.csv").write_text("file_name,text\na.wav,hello there\nb.wav,good morning\n")
    (code,) = re.findall(r"```python\n(.*?)```", read("docs/extending.md"), re.DOTALL)
    exec(compile(code, "docs/extending.md", "exec"), {"__name__": "page"})
    corpora = [settings for settings in settings_in("docs/extending.md") if "corpora.mine" in settings]
    assert [settings["corpora.mine"]["recipe"] for settings in corpora] == ["folder", "cuts"]
    for number, settings in enumerate(corpora):
        override(write_params(Path("params.yaml"), {}), settings)
        result = run("prepare", "mine", f"manifests{number}")
        assert result.exit_code == 0, result.stderr
        made = read_cuts(Path(f"manifests{number}/cuts_train.jsonl.gz"))
        assert sorted(str(cut.supervisions[0].text) for cut in made) == ["good morning", "hello there"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = ROOT / "azeros" / "tiny" / "weights"
    parts = [weights / name for name in ("llm", "speech_encoder", "paraling_encoder")]
    AZerosModel.from_foundation(*parts, seed=1).save_pretrained(tmp_path / "models" / "azeros")
    shutil.copytree(weights, tmp_path / "azeros" / "tiny" / "weights")
    wave = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(1))
    (tmp_path / "recordings").mkdir()
    for name in ("speech.wav", "recordings/a.wav", "recordings/b.wav"):
        soundfile.write(tmp_path / name, wave.numpy(), 16000)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", read(page), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
