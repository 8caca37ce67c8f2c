"""Fixtures that several test modules share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from azeros.model.speech_llm import AZerosModel

ROOT = Path(__file__).parents[1]

# Before torch is imported, here and in the processes that tests start: sums over several threads differ in their
# last bits from run to run, and threads that share a busy core wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["DVC_NO_ANALYTICS"] = "1"  # as in this repository's .dvc/config, also in those that tests make

# The same examples in every run; `pytest --hypothesis-profile search` looks for new ones.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("ci")


def _shared(name: str) -> Path:
    folder = ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Outputs of the reference implementations."""
    return _shared("golden")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and corpus metadata."""
    return _shared("data")


@pytest.fixture(scope="session")
def tiny_model() -> "AZerosModel":
    """The shipped foundation with fresh projectors."""
    from azeros.model.speech_llm import AZerosModel

    weights = ROOT / "azeros" / "tiny" / "weights"
    parts = (weights / name for name in ("llm", "speech_encoder", "paraling_encoder"))
    return AZerosModel.from_foundation(*parts, seed=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where there is none; torch loads only if there are such tests."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
