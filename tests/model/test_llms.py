"""Language models of other families: small random ones with the chat templates of theirs."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast

from azeros.errors import ModelError
from azeros.model.processing import IGNORED, AzerosProcessor
from azeros.model.speech_llm import AZerosModel
from tests.conftest import ROOT

WEIGHTS = ROOT / "azeros" / "tiny" / "weights"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<bos>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SPECIALS = {
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "gemma": ["<pad>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"],
}
TEMPLATES = {"qwen2": CHATML, "llama": LLAMA, "gemma": GEMMA}
# family -> (whose tokenizer, pad token, end of the text, token that ends an answer)
FAMILIES: dict[str, tuple[str, str | None, str, str]] = {
    "Qwen2": ("qwen2", "<|endoftext|>", "<|im_end|>", "<|im_end|>"),
    "Qwen3": ("qwen2", "<|im_end|>", "<|im_end|>", "<|im_end|>"),  # padding ends answers too
    "Llama": ("llama", None, "<|eot_id|>", "<|eot_id|>"),
    "Gemma": ("gemma", "<pad>", "<eos>", "<end_of_turn>"),  # its padding has the id 0
    "Gemma2": ("gemma", "<pad>", "<eos>", "<end_of_turn>"),
}
SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    whose, pad, eos, _ = FAMILIES[family]
    specials = SPECIALS[whose]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*specials, *alphabet])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = ByteLevel()
    inner.add_special_tokens(specials)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=pad, eos_token=eos)
    tokenizer.add_special_tokens({"additional_special_tokens": specials})
    tokenizer.chat_template = TEMPLATES[whose]
    return tokenizer


def make_llm(folder: Path, family: str, tied: bool) -> Path:
    tokenizer = make_tokenizer(family)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer), tie_word_embeddings=tied, pad_token_id=tokenizer.pad_token_id, **SIZE
    )
    torch.manual_seed(1)
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=[(family, tied) for family in FAMILIES for tied in (False, True)], ids=str)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> AZerosModel:
    family, tied = request.param
    llm = make_llm(tmp_path / "llm", family, tied)
    return AZerosModel.from_foundation(llm, WEIGHTS / "speech_encoder", WEIGHTS / "paraling_encoder", seed=1)


def wave(duration_s: float, seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(round(16000 * duration_s), generator=torch.Generator().manual_seed(seed))


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def test_training_and_inference_of_every_family(model: AZerosModel, tmp_path: Path) -> None:
    waves, slot = [wave(1.0, 1), wave(2.0, 2)], model.audio_token_wrapped
    asked = [[user(f"{slot} what is it?")], [user(slot)]]
    alone = [
        model.generate([w], [m], return_ids=True, max_new_tokens=5) for w, m in zip(waves, asked, strict=True)
    ]
    assert model.generate(waves, asked, return_ids=True, max_new_tokens=5) == [ids for (ids,) in alone]
    model.save_pretrained(tmp_path / "saved")
    loaded = AZerosModel.from_pretrained(tmp_path / "saved")
    assert loaded.generate(waves, asked, return_ids=True, max_new_tokens=5) == [ids for (ids,) in alone]

    frames = model.project(model.encode_audios(waves))
    answers = [{"role": "assistant", "content": text} for text in ("a dog", "the sea and the sky")]
    rows = [[*m, a] for m, a in zip(asked, answers, strict=True)]
    inputs = model.prepare_training(rows, frames)
    losses = [
        model(**model.prepare_training([row], frames[2 * i : 2 * i + 2])).loss * num
        for i, (row, num) in enumerate(zip(rows, (inputs["labels"] != IGNORED).sum(1), strict=True))
    ]
    out = model(**inputs)
    torch.testing.assert_close(out.loss, sum(losses) / (inputs["labels"] != IGNORED).sum())
    out.loss.backward()
    assert model.speech_encoder_projector.linear1.weight.grad is not None
    assert all(p.grad is None for p in model.llm.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_to_learn_follows_what_generation_is_given(family: str, tmp_path: Path) -> None:
    model_tokenizer = make_tokenizer(family)
    model_tokenizer.add_special_tokens(
        {"additional_special_tokens": [*SPECIALS[FAMILIES[family][0]], "<|AUDIO|>"]}
    )
    processor = AzerosProcessor(model_tokenizer)
    end = FAMILIES[family][3]
    assert processor.tokenizer.convert_ids_to_tokens(processor.end_token_id) == end
    talk = [
        user("one"),
        {"role": "assistant", "content": "two"},
        user("<|AUDIO|> three <|eot_id|><end_of_turn>"),
    ]
    prompt = processor.encode_inference(talk)
    for answer, learned in (("four", f"four{end}"), ("four<|truncated|> five", "four")):
        row = processor.encode_training([*talk, {"role": "assistant", "content": answer}])
        assert row.ids[: row.num_prompt] == prompt
        assert processor.tokenizer.decode(row.ids[row.num_prompt :]).strip() == learned
    labels = processor.training_row(row, [3]).labels
    assert [token for token in labels if token != IGNORED] == row.ids[row.num_prompt :]


def test_a_template_that_refuses_or_rewrites_is_named(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("Gemma")
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIALS["gemma"], "<|AUDIO|>"]})
    with pytest.raises(ModelError, match=r"refuses the conversation \(no system role\)"):
        AzerosProcessor(tokenizer).encode_inference([{"role": "system", "content": "be kind"}, user("hi")])
    for template, problem in (
        (GEMMA.replace("m.content | trim", "m.content | upper"), "writes an answer to learn otherwise"),
        (None, "no chat template"),
    ):
        tokenizer.chat_template = template
        with pytest.raises(ModelError, match=problem):
            AzerosProcessor(tokenizer)
