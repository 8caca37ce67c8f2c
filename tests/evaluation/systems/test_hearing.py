"""Other people's speech LLMs answer as their own classes do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from azeros.errors import ModelError
from azeros.evaluation.systems.base import Reply
from azeros.evaluation.systems.registry import make_system
from azeros.params import HearingSystem, Pretrained
from tests.evaluation.official import wav
from tests.evaluation.systems.random_models import LLM, save_qwen2_audio
from tests.evaluation.systems.test_local import request


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qwen2-audio")
    save_qwen2_audio(path)
    return path


def settings(folder: Path, **update: object) -> HearingSystem:
    values: dict[str, Any] = {
        "kind": "hearing", "model": Pretrained(path=str(folder), revision=None), "dtype": "float32", "batch_size": 2,
        "max_new_tokens": 8, "system_message": None, "choice_suffix": None,
    }  # fmt: skip
    return HearingSystem(**values | update)


@pytest.mark.parametrize("system", [None, "be brief."])
def test_qwen2_audio_hears_the_recording_before_the_instruction(folder: Path, system: str | None) -> None:
    sounds, questions = [wav(1.0), wav(0.5)], ["", "who is it?"]
    requests = [request(sound, text) for sound, text in zip(sounds, questions, strict=True)]
    replies = make_system("qa", {"qa": settings(folder, system_message=system)}).respond(
        [*requests, request(b"noise")]
    )
    processor: Any = AutoProcessor.from_pretrained(folder)
    model: Any = Qwen2AudioForConditionalGeneration.from_pretrained(folder).eval()
    for asked, question, reply in zip(requests, questions, replies, strict=False):
        told = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
        heard = "Audio: <|audio_bos|><|AUDIO|><|audio_eos|>\n"
        text = f"{told}<|im_start|>user\n{heard}{question}<|im_end|>\n<|im_start|>assistant\n"
        inputs = processor(
            text=text, audio=[asked.recording.load()], sampling_rate=16000, return_tensors="pt"
        )
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        new = ids[0, inputs["input_ids"].shape[1] :]
        assert reply == Reply(processor.tokenizer.decode(new, skip_special_tokens=True).strip())
    assert "one: audio data: unreadable" in str(replies[2].error)


def test_a_penalty_of_the_models_own_is_part_of_what_the_answers_depend_on(
    folder: Path, tmp_path: Path
) -> None:
    assert make_system("qa", {"qa": settings(folder)}).identity["decoding"] == "greedy"
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    generation = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(generation | {"repetition_penalty": 1.1}))
    found = make_system("qa", {"qa": settings(copy)}).identity["decoding"]
    assert found == "greedy, repetition penalty 1.1"


def test_a_model_without_ears_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="transformers does not load it"):
        make_system("deaf", {"deaf": settings(LLM)})
