"""`azeros data prepare` by hand: the same manifests as the stage makes, and no folder of somebody else's replaced."""

from pathlib import Path

import pytest

from tests.data.recipes.miniature import write_audio
from tests.small import complaint, digests, run, write_params


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test, with a corpus in TESS."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:/dev/null/nowhere")
    for name in ("OAF_back_ps", "YAF_back_sad"):
        write_audio(Path(f"TESS/{name}.wav"), rate=24_414)
    return tmp_path


def test_by_hand_as_in_the_pipeline(here: Path) -> None:
    write_params(here / "params.yaml", {"corpora.tess": {"recipe": "tess", "path": "TESS"}})
    assert run("prepare", "tess", "by-stage").exit_code == 0
    assert run("data", "prepare", "tess", "TESS", "by-hand").exit_code == 0
    assert digests(Path("by-hand")) == digests(Path("by-stage"))
    assert digests(Path("by-hand")).keys() >= {
        "report.json",
        "report.md",
        "rejects.jsonl",
        "cuts_train.jsonl.gz",
    }


def test_what_may_be_replaced(here: Path) -> None:
    Path("out").mkdir()
    for _ in range(2):
        assert run("data", "prepare", "tess", "TESS", "out").exit_code == 0
    result = run("data", "prepare", "tess", "TESS", str(here))
    assert result.exit_code == 1
    assert "was not made by prepare" in complaint(result.stderr)
    assert Path("TESS/OAF_back_ps.wav").is_file()


@pytest.mark.parametrize("option", ["emotion", "=x", "emotion=[", "emotion=x"])
def test_options_that_are_none(here: Path, option: str) -> None:
    result = run("data", "prepare", "crema_d", "TESS", "out", "--option", option)
    assert result.exit_code == 1
    assert option in complaint(result.stderr) or "'emotion' is \"x\"" in complaint(result.stderr)
