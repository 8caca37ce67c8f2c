"""Every row of the manifest has one outcome, or its name is said."""

from pathlib import Path

import pytest
from lhotse import MonoCut

from azeros.data.manifests import write_cuts
from azeros.errors import StageError
from azeros.sift.accounts import check_rows


def write(path: Path, names: str) -> Path:
    write_cuts([MonoCut(name, 0.0, 1.0, channel=0) for name in names], path)
    return path


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        ("ac", None),
        ("a", "row 3, cut c, has neither a target nor a reason"),
        ("aac", "row 3, cut c, has neither"),
        ("acc", "cut c has more than one outcome"),
        ("abc", "cut b has more than one outcome"),
    ],
)
def test_rows_against_files(tmp_path: Path, kept: str, problem: str | None) -> None:
    manifest, targets = write(tmp_path / "in.jsonl.gz", "abc"), write(tmp_path / "out.jsonl.gz", kept)
    rejects = tmp_path / "rejects.jsonl"
    rejects.write_text('{"id": "b"}\n')
    if problem is None:
        check_rows(manifest, targets, rejects)
        return
    with pytest.raises(StageError, match=problem):
        check_rows(manifest, targets, rejects)
