"""A cascade reads what its recogniser has understood."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoProcessor, WhisperForConditionalGeneration

from azeros.evaluation.systems.registry import make_system
from azeros.params import Benchmark, CascadeSystem, Pretrained, TextSystem, load_params
from tests.conftest import ROOT
from tests.evaluation.official import wav
from tests.evaluation.systems.random_models import LLM, save_whisper
from tests.evaluation.systems.test_local import request


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cascade") / "whisper"
    save_whisper(path)
    return path


def cascade(folder: Path, reader: str = "text") -> CascadeSystem:
    return CascadeSystem(
        kind="cascade", recognizer=Pretrained(path=str(folder), revision=None), dtype="float32", batch_size=2,
        reader=reader, choice_suffix=None,
    )  # fmt: skip


def reader() -> TextSystem:
    return TextSystem(
        kind="text", llm=Pretrained(path=str(LLM), revision=None), dtype="float32", batch_size=2, max_new_tokens=24,
        removed=None,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_reader_is_given_transcript_and_instruction(folder: Path) -> None:
    systems: dict[str, Any] = {"both": cascade(folder), "text": reader()}
    requests = [request(wav(1.0)), request(b"noise"), request(wav(0.5), "who is it?")]
    replies = make_system("both", systems).respond(requests)
    processor: Any = AutoProcessor.from_pretrained(folder)
    whisper: Any = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    said = []
    for asked in (requests[0], requests[2]):
        features = processor(asked.recording.load(), sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            said.append(
                processor.batch_decode(whisper.generate(features), skip_special_tokens=True)[0].strip()
            )
    assert all(said)
    read = [request(b"", transcript=said[0]), request(b"", transcript=f"{said[1]}\nwho is it?")]
    expected = make_system("text", systems).respond(read)
    assert [replies[0], replies[2]] == expected
    assert "one: audio data: unreadable" in str(replies[1].error)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_whisper_hears_more_than_its_window(folder: Path) -> None:
    systems: dict[str, Any] = {"both": cascade(folder), "text": reader()}
    (reply,) = make_system("both", systems).respond([request(wav(31.0))])
    assert reply.response is not None, reply.error


def test_what_was_removed_is_not_read() -> None:
    plain, cleaned = reader(), reader().model_copy(update={"removed": '":'})
    shown = 'say: "tom has two cats"'
    (expected,) = make_system("text", {"text": plain}).respond(
        [request(b"", transcript="say tom has two cats")]
    )
    assert make_system("text", {"text": cleaned}).respond([request(b"", transcript=shown)]) == [expected]


def test_a_reader_must_read(folder: Path) -> None:
    benchmark = load_params(ROOT / "params.yaml").benchmark.model_dump() | {"asked": ["both"]}
    with pytest.raises(ValidationError, match=r"systems.both.reader: 'both' is no system that reads"):
        Benchmark.model_validate(benchmark | {"systems": {"both": cascade(folder, "both")}})
