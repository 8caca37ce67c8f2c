"""Small models of other people's classes with random weights, saved as those are published."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    EncodecFeatureExtractor,
    GenerationConfig,
    MoshiConfig,
    MoshiForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.conftest import ROOT

LLM = ROOT / "azeros/tiny/weights/llm"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}Audio: <|audio_bos|><|AUDIO|><|audio_eos|>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_qwen2_audio(folder: Path) -> None:
    """A Qwen2-Audio of one layer each, with the tiny world's words."""
    torch.manual_seed(0)
    tokenizer: Any = AutoTokenizer.from_pretrained(LLM)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]}
    )
    audio = {
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "num_mel_bins": 80,
    }
    text = {
        "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    config = Qwen2AudioConfig(
        audio_config=audio, text_config=text, audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>")
    )
    Qwen2AudioForConditionalGeneration(config).save_pretrained(folder)
    features = WhisperFeatureExtractor(feature_size=80)
    Qwen2AudioProcessor(features, tokenizer, chat_template=CHAT_TEMPLATE).save_pretrained(folder)


def save_moshi(folder: Path) -> None:
    """A Moshi and a Mimi of one layer each, with the tiny world's words and the settings of kmhf/hf-moshiko."""
    torch.manual_seed(0)
    tokenizer: Any = AutoTokenizer.from_pretrained(LLM)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<unk>", "<pad>"]})
    tokenizer.save_pretrained(folder)
    EncodecFeatureExtractor().save_pretrained(folder)
    mimi = {
        "model_type": "mimi", "hidden_size": 16, "num_filters": 2, "num_hidden_layers": 1, "intermediate_size": 16,
        "num_attention_heads": 2, "num_key_value_heads": 2, "codebook_size": 16, "codebook_dim": 8, "num_quantizers": 3,
        "vector_quantization_hidden_dimension": 8, "upsample_groups": 16,
    }  # fmt: skip
    depth = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    config = MoshiConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, ffn_dim=32,
        num_codebooks=3, max_position_embeddings=200, sliding_window=200, audio_encoder_config=mimi,
        depth_decoder_config=depth,
    )  # fmt: skip
    model: Any = MoshiForConditionalGeneration(config)
    depth_decoding = {
        "cache_implementation": "sliding_window", "do_sample": True, "min_length": 4, "max_length": 4, "top_k": 250,
        "temperature": 0.8, "transformers_version": "4.46.0.dev0",
    }  # fmt: skip
    model.generation_config = GenerationConfig(
        bos_token_id=len(tokenizer), pad_token_id=len(tokenizer), do_sample=True, top_k=25,
        cache_implementation="sliding_window", depth_decoder_config=depth_decoding, temp=0.7,
    )  # fmt: skip
    model.save_pretrained(folder)


def save_whisper(folder: Path) -> None:
    """A Whisper of one layer each that writes bytes."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    tasks = ["<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|transcribe|>"]
    others = ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    times = [f"<|{second / 50:.2f}|>" for second in range(1501)]
    vocabulary = {letter: number for number, letter in enumerate(bytes_to_unicode().values())}
    tokenizer: Any = WhisperTokenizer(
        vocab={**vocabulary, "<|endoftext|>": 256}, merges=[], pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [*tasks, *others, *times]})
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (*tasks, *others)}
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=80, d_model=16, encoder_layers=1, encoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32,
        decoder_start_token_id=ids["<|startoftranscript|>"], bos_token_id=256, eos_token_id=256, pad_token_id=256,
    )  # fmt: skip
    model: Any = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        model.get_output_embeddings().weight[256:] = 0  # so that it prefers letters
    model.generation_config = GenerationConfig(
        decoder_start_token_id=ids["<|startoftranscript|>"], bos_token_id=256, eos_token_id=256, pad_token_id=256,
        lang_to_id={"<|en|>": ids["<|en|>"], "<|zh|>": ids["<|zh|>"]},
        task_to_id={"translate": ids["<|translate|>"], "transcribe": ids["<|transcribe|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"], is_multilingual=True, max_length=40,
        begin_suppress_tokens=[256], suppress_tokens=[],
    )  # fmt: skip
    model.save_pretrained(folder)
