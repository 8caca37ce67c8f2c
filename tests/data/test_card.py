"""The data card says of the corpora what their manifests hold, and of the mixes what the settings say."""

import json
from pathlib import Path

import pytest

from azeros.errors import ManifestError
from azeros.params import load_params
from tests.data.recipes.miniature import prepare, write_audio
from tests.small import run, write_params


def test_a_card_of_two_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, name in ((36.0, "long"), (18.0, "short")):
        write_audio(tmp_path / name / "a.wav", seconds)
        (tmp_path / name / "metadata.csv").write_text("file_name,text,gender\na.wav,hi,f\nb.wav,hi,m\n")
        prepare("folder", tmp_path / name)
        (tmp_path / f"{name}-prepared").rename(tmp_path / f"{name}-manifests")
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    corpora = {}
    for name in ("long", "short"):
        (tmp_path / f"{name}-manifests").rename(manifests / name)
        corpora[name] = {"recipe": "folder", "path": str(tmp_path / name), "language": "en"}
    sets = {name: {"corpus": name, "split": "train", "mode": "sift_s"} for name in corpora}
    update = {"corpora": corpora, "sift.sets": sets, "evaluate.corpora": ["long"]}
    update |= {"train.stage1.sets": {"long": 1.0, "short": 3.0}, "train.stage2.sets": {"long": 1.0}}
    params = write_params(tmp_path / "params.yaml", update)
    output = tmp_path / "reports/data.md"
    result = run("data", "card", str(manifests), str(output), "--params", str(params))
    assert result.exit_code == 0, result.exception
    page = output.read_text()
    assert "| long | 1 | 0.01 |  | 1 |" in page
    assert "| short | short | sift_s | 0.01 | 3 | 75.0 % |" in page
    assert "| your own recordings | yours |" in page
    figures = json.loads((output.parent / "data.json").read_text())
    assert {name: of_corpus["by"]["gender"]["female"]["hours"] for name, of_corpus in figures.items()} == {
        "long": 0.01,
        "short": 0.005,
    }
    for plot in ("data-durations.png", "data-labels.png"):
        assert f"]({plot})" in page
        assert (output.parent / plot).read_bytes().startswith(b"\x89PNG")


def test_a_corpus_that_is_not_prepared(tmp_path: Path) -> None:
    from azeros.data.card import write_card
    from tests.conftest import ROOT

    with pytest.raises(ManifestError, match="run dvc repro prepare@tiny first"):
        write_card(load_params(ROOT / "params.yaml"), tmp_path, tmp_path / "data.md")


@pytest.mark.parametrize("content", ['{"rows_in": 3', "[]", "{}"])
def test_a_damaged_report(tmp_path: Path, content: str) -> None:
    from azeros.data.card import write_card
    from tests.conftest import ROOT

    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/report.json").write_text(content)
    with pytest.raises(ManifestError, match=r"tiny/report\.json: not a report .* prepare@tiny"):
        write_card(load_params(ROOT / "params.yaml"), tmp_path, tmp_path / "data.md")
