"""The Python of the documentation runs, each page from top to bottom."""

import re
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from azeros.model.speech_llm import AZerosModel
from tests.conftest import ROOT

PAGES = ["README.md", "docs/model.md"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = ROOT / "azeros" / "tiny" / "weights"
    parts = [weights / name for name in ("llm", "speech_encoder", "paraling_encoder")]
    AZerosModel.from_foundation(*parts, seed=1).save_pretrained(tmp_path / "models" / "azeros")
    shutil.copytree(weights, tmp_path / "azeros" / "tiny" / "weights")
    wave = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(1))
    soundfile.write(tmp_path / "speech.wav", wave.numpy(), 16000)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
