"""A flow has the checkout to itself, and params.yaml is afterwards as it was."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from azeros.errors import ParamsError
from azeros.params import load_params
from flows.checkout import PARAMS, own_checkout
from tests.conftest import ROOT
from tests.flows.test_pipeline import environment_of, started, wait_until

OVERRIDES = ["seed=2"]
# Holds the checkout until it is told to leave, or killed.
HOLDER = """
import pathlib, time
from prefect.logging import disable_run_logger
from flows.checkout import own_checkout
with disable_run_logger(), own_checkout(["seed=2"]):
    pathlib.Path("held").touch()
    while not pathlib.Path("leave").exists():
        time.sleep(0.05)
"""


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The settings in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    PARAMS.write_text(text)
    with disable_run_logger():
        yield text


def test_overrides_hold_for_one_run_even_if_it_fails(before: str) -> None:
    with pytest.raises(KeyboardInterrupt), own_checkout(OVERRIDES):  # noqa: PT012
        assert load_params(PARAMS).seed == 2
        raise KeyboardInterrupt
    assert PARAMS.read_text() == before


def test_a_wrong_override_changes_nothing(before: str) -> None:
    with (
        pytest.raises(ParamsError, match=r"params\.yaml: there is no setting 'no\.such'"),
        own_checkout(["no.such=1"]),
    ):
        raise AssertionError("the run began")
    assert PARAMS.read_text() == before


def test_an_edit_during_a_run_stays(before: str) -> None:
    with own_checkout(OVERRIDES):
        PARAMS.write_text(PARAMS.read_text() + "# a note\n")
    assert PARAMS.read_text().endswith("# a note\n")
    with own_checkout():
        assert load_params(PARAMS).seed == 2


def test_another_flow_waits_and_a_killed_one_leaves_the_settings_to_be_put_back(
    before: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HOLDER]
    with started(command, tmp_path, environment_of(tmp_path)) as first:
        wait_until(Path("held").exists, first)
        Path("held").unlink()
        with started(command, tmp_path, environment_of(tmp_path)) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=8)
            assert not Path("held").exists()
            first.kill()
            wait_until(Path("held").exists, second)
            second.kill()
    assert load_params(PARAMS).seed == 2
    with own_checkout():
        assert PARAMS.read_text() == before
