"""The service over HTTP, in one process, on a packaged model made from the shipped foundation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

# BentoML 1.4 itself uses what pathspec and pydantic have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    from azeros import AZerosModel

    folder, weights = tmp_path_factory.mktemp("model"), ROOT / "azeros" / "tiny" / "weights"
    encoders = [str(weights / name) for name in ("speech_encoder", "paraling_encoder")]
    AZerosModel.from_foundation(str(weights / "llm"), *encoders, seed=0).save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZEROS_MODEL", str(folder))
        from bento.service import Azeros

        service: Any = Azeros
        with TestClient(service.to_asgi()) as running:
            yield running


def post(client: TestClient, path: Path, **fields: str) -> tuple[int, str]:
    with path.open("rb") as file:
        found = client.post("/generate", files={"audio": (path.name, file, "audio/wav")}, data=fields)
    return found.status_code, found.text


def test_a_recording_is_answered(client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    status, text = post(client, path, prompt="what is the topic?", max_new_tokens="8")
    assert status == 200
    assert text


@pytest.mark.parametrize(("content", "word"), [(b"", "empty"), (b"not audio at all", "unreadable")])
def test_bad_audio_is_refused_by_name(client: TestClient, tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    status, text = post(client, path)
    assert status == 400
    assert word in text


def test_a_negative_budget_is_refused(client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    status, text = post(client, path, max_new_tokens="-1")
    assert status == 400
    assert "at least 1" in text
