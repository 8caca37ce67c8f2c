"""Other people's speech LLMs answer as their own classes do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import (
    AutoFeatureExtractor,
    AutoProcessor,
    AutoTokenizer,
    Phi4MultimodalForCausalLM,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2AudioForConditionalGeneration,
    Qwen3OmniMoeThinkerForConditionalGeneration,
)

from azeros.errors import ModelError
from azeros.evaluation.systems.base import Reply
from azeros.evaluation.systems.registry import make_system
from azeros.params import HearingSystem, Pretrained
from tests.evaluation.official import wav
from tests.evaluation.systems.random_models import (
    LLM,
    save_phi4_multimodal,
    save_qwen2_audio,
    save_qwen3_omni,
    save_qwen25_omni,
)
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


@pytest.mark.parametrize(
    ("save", "thinker", "token", "padding", "num_tokens"),
    [
        (save_qwen25_omni, Qwen2_5OmniThinkerForConditionalGeneration, "<|AUDIO|>", "max_length", (25, 12)),
        (save_qwen3_omni, Qwen3OmniMoeThinkerForConditionalGeneration, "<|audio_pad|>", "longest", (13, 7)),
    ],
)
def test_an_omni_model_writes_what_its_thinker_thinks(
    save: Callable[[Path], None],
    thinker: Any,
    token: str,
    padding: str,
    num_tokens: tuple[int, int],
    tmp_path: Path,
) -> None:
    save(tmp_path)
    requests = [request(wav(1.0)), request(wav(0.5), "who is it?")]
    replies = make_system("omni", {"omni": settings(tmp_path, system_message="Listen.")}).respond(requests)
    extractor, tokenizer = (auto.from_pretrained(tmp_path) for auto in (AutoFeatureExtractor, AutoTokenizer))
    model = thinker.from_pretrained(tmp_path).eval()
    for asked, number, reply in zip(requests, num_tokens, replies, strict=True):
        heard = extractor(
            asked.recording.load(), sampling_rate=16000, padding=padding, return_attention_mask=True, return_tensors="pt"
        )  # fmt: skip
        told = f"<|im_start|>system\nListen.<|im_end|>\n<|im_start|>user\n<|audio_bos|>{token * number}<|audio_eos|>"
        text = f"{told}{asked.instruction}<|im_end|>\n<|im_start|>assistant\n"
        written = write(
            model, tokenizer, text, input_features=heard["input_features"],
            feature_attention_mask=heard["attention_mask"],
        )  # fmt: skip
        assert reply == Reply(written)
    assert replies[0] != replies[1]


def test_phi_4_hears_with_its_adapter_for_speech(tmp_path: Path) -> None:
    plain, adapted = tmp_path / "plain", tmp_path / "adapted"
    save_phi4_multimodal(plain)
    shutil.copytree(plain, adapted)
    model: Any = Phi4MultimodalForCausalLM.from_pretrained(plain).eval()
    tokenizer, extractor = (auto.from_pretrained(plain) for auto in (AutoTokenizer, AutoFeatureExtractor))
    requests = [request(wav(1.0)), request(wav(0.5), "who is it?")]

    def expected() -> list[Reply]:
        replies = []
        for asked, number in zip(requests, (13, 6), strict=True):
            heard = extractor([asked.recording.load()], sampling_rate=16000, return_tensors="pt")
            told = f"<|im_start|>user\n{'<|endoftext11|>' * number}{asked.instruction}<|im_end|>\n"
            replies.append(Reply(write(model, tokenizer, f"{told}<|im_start|>assistant\n", **heard)))
        return replies

    def found(folder: Path) -> list[Reply]:
        system = make_system("phi", {"phi": settings(folder)})
        return [reply for asked in requests for reply in system.respond([asked])]

    before = found(plain)
    assert before == expected()
    add_adapter(adapted / "speech-lora", model)
    assert found(adapted) == expected() != before


def write(model: Any, tokenizer: Any, text: str, **heard: Any) -> str:
    """The greedy answer to a prompt with every token of the recording in it."""
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(**inputs, **heard, max_new_tokens=8, do_sample=False)
    return str(tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())


def add_adapter(folder: Path, model: Any) -> None:
    """Save a random adapter as Phi-4-multimodal's are published, and add it to the weights of `model`."""
    torch.manual_seed(1)
    layers = r"model.layers.\d+.((self_attn.(qkv|o)_proj)|(mlp.(gate_up|down)_proj))"
    LoraConfig(r=4, lora_alpha=8, target_modules=layers, task_type="CAUSAL_LM").save_pretrained(str(folder))
    state: dict[str, torch.Tensor] = {}
    for part in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"):
        name = f"model.layers.0.{part}"
        weight = model.get_parameter(f"{name}.weight")
        down, up = torch.randn(4, weight.shape[1]), torch.randn(weight.shape[0], 4)
        state |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        with torch.no_grad():
            weight += 8 / 4 * up @ down
    save_file(state, folder / "adapter_model.safetensors")


def test_a_model_without_all_its_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    config["text_config"] |= {"num_hidden_layers": 2, "layer_types": None}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"no weights for .*layers\.1\."):
        make_system("qa", {"qa": settings(copy)})
