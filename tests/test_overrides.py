"""Overrides change what they name, or nothing at all."""

import subprocess
from pathlib import Path

import pytest

from azeros.errors import ParamsError
from azeros.overrides import override, parse_override, read_overrides
from azeros.params import load_params
from tests.conftest import ROOT
from tests.small import run


def test_overrides_change_what_they_name_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shipped = (ROOT / "params.yaml").read_text()
    path.write_text(shipped)
    texts = ["train.stage1.num_steps=7", "corpora.mine={recipe: folder, path: /a, language: en}"]
    params = override(path, dict(map(parse_override, texts)))
    assert params == load_params(path)
    assert params.train.stage1.num_steps == 7
    assert params.corpora.keys() == {"tiny", "mine"}
    before = load_params(ROOT / "params.yaml").train.stage1.num_steps
    assert set(shipped.splitlines()) - set(path.read_text().splitlines()) == {f"    num_steps: {before}"}


@pytest.mark.parametrize(
    ("files", "modes"),
    [
        (["paper.yaml"], {"sift_s", "sift_sp"}),
        (["paper.yaml", "paper-dialogue.yaml"], {"sift_s", "sift_ssp", "sit_ssp"}),
    ],
)
def test_the_papers_recipes_are_valid(tmp_path: Path, files: list[str], modes: set[str]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    params = override(path, read_overrides([*(str(ROOT / "flows" / file) for file in files), "seed=3"]))
    assert params.seed == 3
    weights: dict[str, dict[str, float]] = {}
    for name, weight in params.train.stage2.sets.items():
        wanted = params.sift.sets[name]
        weights.setdefault(wanted.corpus, {})[wanted.mode] = weight
    assert len(weights) == 11
    assert all(mix.keys() == modes and len(set(mix.values())) == 1 for mix in weights.values())
    assert params.train.stage1.sets.keys() == {"wenetspeech_s", "gigaspeech_s", "commonvoice_s"}
    assert len(params.corpora["commonvoice"].languages) + 2 == 12  # type: ignore[union-attr, arg-type]
    assert "# Every setting of the pipeline" in path.read_text()


@pytest.mark.slow
def test_dvc_resolves_the_papers_recipe_and_the_doctor_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        Path(name).write_text((ROOT / name).read_text())
    subprocess.run(["dvc", "init", "--no-scm", "--quiet"], check=True)
    assert run("override", str(ROOT / "flows/paper.yaml")).exit_code == 0
    listed = subprocess.run(
        ["dvc", "stage", "list", "--name-only"], check=True, capture_output=True, text=True
    )
    stages = set(listed.stdout.split())
    assert {"prepare@wenetspeech", "sift@voxceleb2_sp", "train@stage2", "benchmark"} <= stages
    assert "prepare@tiny" not in stages
    line = next(line for line in run("doctor").stdout.splitlines() if line.startswith("missing  data"))
    assert "corpora.iemocap: /corpora/iemocap" in line
    assert "benchmark.data.voicebench: data/voicebench" in line


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("train.stage9.num_steps=7", "there is no setting 'train.stage9.num_steps' to override"),
        ("train.stage1.steps=7", "unknown key 'train.stage1.steps'"),
        ("seed=one", "integer"),
        ("seed", "is no override"),
        ("seed=[", "is not YAML"),
    ],
)
def test_a_wrong_override_is_named_and_changes_nothing(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    with pytest.raises(ParamsError, match=problem):
        override(path, dict([parse_override(text)]))
    assert path.read_text() == (ROOT / "params.yaml").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["params.yaml"]
