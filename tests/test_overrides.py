"""Overrides change what they name, or nothing at all."""

from pathlib import Path

import pytest

from azeros.errors import ParamsError
from azeros.overrides import override, parse_override, read_overrides
from azeros.params import load_params
from tests.conftest import ROOT


def test_overrides_change_what_they_name_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shipped = (ROOT / "params.yaml").read_text()
    path.write_text(shipped)
    texts = ["train.stage1.num_steps=7", "corpora.mine={recipe: folder, path: /a, language: en}"]
    params = override(path, dict(map(parse_override, texts)))
    assert params == load_params(path)
    assert params.train.stage1.num_steps == 7
    assert params.corpora.keys() == {"tiny", "mine"}
    assert set(shipped.splitlines()) - set(path.read_text().splitlines()) == {"    num_steps: 1000"}


def test_the_papers_recipe_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    params = override(path, read_overrides([str(ROOT / "flows" / "paper.yaml"), "seed=3"]))
    assert params.seed == 3
    modes = {params.sift.sets[name].mode for name in params.train.stage2.sets}
    assert modes == {"sift_s", "sift_sp"}
    corpora = {params.sift.sets[name].corpus for name in params.train.stage2.sets}
    assert len(corpora) == 11
    assert len(params.train.stage2.sets) == 22
    assert len(params.corpora["commonvoice"].languages) + 2 == 12  # type: ignore[union-attr, arg-type]
    assert "# Every setting of the pipeline" in path.read_text()


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
