"""A preview shows what the stage would make, of cuts from all over the manifest."""

from pathlib import Path

import pytest

from azeros.data.manifests import write_cuts
from azeros.errors import ManifestError
from azeros.sift.preview import spread
from tests.small import complaint, make_cut, run, write_params


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "cuts.jsonl.gz"
    cuts = [make_cut(f"cut{n}", f"paul wants {n} apples") for n in range(8)]
    write_cuts([*cuts, make_cut("none", None), make_cut("last", "[turn] on the radio")], path)
    return path


def test_cuts_come_from_all_over_the_manifest(manifest: Path, tmp_path: Path) -> None:
    assert [cut.id for cut in spread(manifest, 5)] == ["cut0", "cut2", "cut4", "cut6", "none"]
    assert len(spread(manifest, 10)) == len(spread(manifest, 99)) == 10
    write_cuts([], tmp_path / "empty.jsonl.gz")
    with pytest.raises(ManifestError, match="it is empty"):
        spread(tmp_path / "empty.jsonl.gz", 3)


def test_the_command_shows_modes_side_by_side(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    params = str(write_params(tmp_path / "params.yaml", {}))
    shown = run(
        "sift", "preview", str(manifest), "--modes", "sift_s, sit_sp", "--num", "10", "--params", params
    )
    assert shown.exit_code == 0, shown.stderr
    lines = shown.stdout.splitlines()
    head = next(line for line in lines if "transcript" in line)
    assert "sift_s" in head
    assert "sit_sp" in head
    assert "sift_sp " not in head
    row = next(line for line in lines if "cut3" in line)
    assert "paul wants 3 apples" in row
    assert "sad" in row
    assert "female" in row
    assert "rejected: no text" in next(line for line in lines if "none" in line)
    assert "[turn] on the radio" in shown.stdout  # not taken for markup
    wrong = run("sift", "preview", str(manifest), "--modes", "sift_x", "--params", params)
    assert wrong.exit_code == 2
    gone = run("sift", "preview", str(tmp_path / "gone.jsonl"), "--params", params)
    assert complaint(gone.stderr).startswith(f"azeros: {tmp_path}/gone.jsonl: no such manifest")
