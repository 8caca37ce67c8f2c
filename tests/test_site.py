"""The site of the documentation builds, and a link that leads nowhere stops it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def build(source: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """What `make docs` runs."""
    options = ["-EWq", "--keep-going", "-c", str(ROOT / "docs"), "-d", str(folder / "read")]
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(folder / "site")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    result = build(ROOT, tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    for page in (ROOT / "docs").glob("*.md"):
        assert (tmp_path / "site" / "docs" / f"{page.stem}.html").exists()
    assert "AZerosModel.generate" in (tmp_path / "site" / "docs" / "reference.html").read_text()


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "docs", source / "docs", ignore=shutil.ignore_patterns("*.rst", "conf.py"))
    readme = (
        ROOT / "README.md"
    ).read_text() + "[a](docs/gone.md) [b](docs/model.md#gone) [c](docs/model.md#export)\n"
    (source / "README.md").write_text(readme)
    result = build(source, tmp_path)
    assert result.returncode == 1
    assert re.findall("target not found: '(.*?)'|local id not found in doc '(.*?)'", result.stderr) == [
        ("docs/gone.md", ""), ("", "docs/model")
    ]  # fmt: skip
