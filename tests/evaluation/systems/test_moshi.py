"""Moshi hears a recording and silence after it, and its answer is the text that it writes as it speaks."""

from pathlib import Path
from typing import Any

import pytest
import soxr
import torch
from transformers import AutoTokenizer, MoshiForConditionalGeneration

from azeros.errors import BenchmarkError, ModelError
from azeros.evaluation.generation import generate
from azeros.evaluation.samples import load_samples
from azeros.evaluation.systems.registry import make_system
from azeros.params import MoshiSystem, Pretrained
from tests.evaluation.official import wav
from tests.evaluation.systems.random_models import LLM, save_moshi
from tests.evaluation.systems.test_local import request

NUM_FRAMES = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moshi")
    save_moshi(path)
    return path


def settings(folder: Path, **update: object) -> MoshiSystem:
    model = Pretrained(path=str(folder), revision=None)
    values: dict[str, Any] = {
        "kind": "moshi", "model": model, "dtype": "float32", "max_new_tokens": NUM_FRAMES, "seed": 3,
    }  # fmt: skip
    return MoshiSystem(**values | update)


def test_moshi_answers_in_the_silence_after_the_recording(folder: Path) -> None:
    sounds = [wav(1.0), b"noise", wav(0.5)]
    replies = make_system("moshi", {"moshi": settings(folder)}).respond([request(sound) for sound in sounds])
    assert "one: audio data: unreadable" in str(replies[1].error)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = MoshiForConditionalGeneration.from_pretrained(folder).eval()
    for sound, reply, num_frames in ((sounds[0], replies[0], 13), (sounds[2], replies[2], 7)):
        samples = torch.tensor(soxr.resample(request(sound).recording.load(), 16_000, 24_000))[None, None]
        silence = torch.zeros_like(samples)
        heard, said = (model.audio_encoder.encode(wave, num_quantizers=3)[0] for wave in (samples, silence))
        torch.manual_seed(3)
        output = model.generate(
            input_ids=torch.full((1, num_frames), tokenizer.vocab["<pad>"]), user_audio_codes=heard,
            moshi_audio_codes=said, max_new_tokens=NUM_FRAMES,
        )  # fmt: skip
        tokens = tokenizer.convert_ids_to_tokens(output.sequences[0, -NUM_FRAMES:])
        words = [token for token in tokens if token not in tokenizer.all_special_tokens]
        assert reply.response == tokenizer.convert_tokens_to_string(words).strip() != ""


def test_the_seed_is_part_of_what_the_answers_depend_on(folder: Path) -> None:
    one, other = (make_system("moshi", {"moshi": settings(folder, seed=seed)}) for seed in (3, 4))
    assert one.identity["decoding"] == "as its authors sample, seed 3"
    assert one.respond([request(wav(0.5))]) == one.respond([request(wav(0.5))])
    assert one.respond([request(wav(0.5))]) != other.respond([request(wav(0.5))])


def test_a_set_that_asks_in_writing_is_refused(folder: Path, tmp_path: Path) -> None:
    from azeros.tiny.benchmarks import write_benchmarks
    from azeros.tiny.world import World

    write_benchmarks(tmp_path / "data", World(), 1, seed=1)
    chat = load_samples("airbench", "chat", tmp_path / "data/airbench", partial=True)
    with pytest.raises(BenchmarkError, match="airbench chat cannot be put to moshi: it takes speech alone"):
        generate("moshi", make_system("moshi", {"moshi": settings(folder)}), chat, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_model_is_named() -> None:
    with pytest.raises(ModelError, match="no Moshi loads: a model of type qwen2"):
        make_system("moshi", {"moshi": settings(LLM)})
