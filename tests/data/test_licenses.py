"""Every recipe has its terms; a mix may be sold only if all of it may."""

from pathlib import Path
from typing import get_args

import pytest

import azeros.data.recipes
from azeros.data.card import recipes_of_mix
from azeros.data.catalog import read_catalog
from azeros.data.licenses import require_commercial, verdict
from azeros.errors import CorpusError
from azeros.params import Corpus, load_params
from tests.conftest import ROOT
from tests.small import complaint, run, write_params

PARTS = {"__init__", "layout", "segments"}  # of recipes, not recipes themselves


def test_each_recipe_has_an_entry_of_every_kind() -> None:
    modules = {path.stem for path in Path(azeros.data.recipes.__file__).parent.glob("*.py")} - PARTS
    entries = get_args(get_args(Corpus)[0])
    settings = {name for entry in entries for name in get_args(entry.model_fields["recipe"].annotation)}
    assert read_catalog().corpora.keys() == modules == settings


def test_the_options_of_the_catalog_are_complete() -> None:
    catalog = read_catalog()
    for recipe in catalog.corpora:
        assert catalog.corpus(recipe, "x", []).recipe == recipe


@pytest.mark.parametrize(
    ("word", "recipe"),
    [("AISHELL-1", "aishell1"), ("aishell", "aishell1"), ("CREMA-D", "crema_d"), ("meld", "meld")],
)
def test_names_of_recipes(word: str, recipe: str) -> None:
    assert read_catalog().recipe(word) == recipe


@pytest.mark.parametrize(
    ("word", "hint"), [("iemokap", "did you mean iemocap"), ("c", "there are"), ("", "there are")]
)
def test_names_that_are_none(word: str, hint: str) -> None:
    with pytest.raises(CorpusError, match=hint):
        read_catalog().recipe(word)


def test_verdicts() -> None:
    assert verdict(["tiny", "commonvoice"]).startswith("Commercial use is allowed")
    assert verdict(["aishell1", "meld"]) == "Commercial use is not settled: read the terms of MELD."
    assert verdict(["meld", "iemocap", "tess"]) == "Not for commercial use: IEMOCAP, TESS."
    with pytest.raises(CorpusError, match="Not for commercial use: RAVDESS"):
        require_commercial("ravdess")


def test_all_terms_and_the_mix_of_the_settings() -> None:
    path = ROOT / "params.yaml"
    assert recipes_of_mix(load_params(path)) == ["tiny"]
    printed = run("data", "licenses", "--params", str(path)).stdout
    catalog = read_catalog()
    assert all(
        entry.license in printed for entry in (*catalog.corpora.values(), *catalog.benchmarks.values())
    )
    assert printed.endswith("(the tiny world): Commercial use is allowed, under the terms of each corpus.\n")


def test_terms_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("data", "licenses").stdout.endswith(
        "no params.yaml here whose mix could be judged; give one with --params\n"
    )
    assert run("data", "licenses", "--params", "gone.yaml").exit_code == 1


def test_targets_for_weights_that_shall_be_sold(tmp_path: Path) -> None:
    corpus = {"recipe": "tess", "path": "x"}
    path = write_params(
        tmp_path / "params.yaml",
        {"commercial": True, "corpora.tess": corpus, "sift.sets.tiny_s.corpus": "tess"},
    )
    result = run("sift", "tiny_s", "in", str(tmp_path / "out"), "--params", str(path))
    assert result.exit_code == 1
    assert "commercial is true in params.yaml. Not for commercial use: TESS" in complaint(result.stderr)
