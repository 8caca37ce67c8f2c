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
    Phi4MultimodalConfig,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalForCausalLM,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
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
    "{% if part['type'] == 'audio' %}AUDIO{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OMNI_TOKENS = ("image", "audio", "video", "vision_bos", "vision_eos", "audio_bos", "audio_eos")


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
    template = CHAT_TEMPLATE.replace("AUDIO", "Audio: <|audio_bos|><|AUDIO|><|audio_eos|>\n")
    Qwen2AudioProcessor(features, tokenizer, chat_template=template).save_pretrained(folder)


def _save_ears(folder: Path, extractor: Any, heard: str, tokens: dict[str, str]) -> Any:
    """What a processor is made of, without what would want torchvision; returns the tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(LLM, extra_special_tokens=tokens)
    tokenizer.save_pretrained(folder)
    extractor.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("AUDIO", heard))
    return tokenizer


def _small(tokenizer: Any = None, **other: Any) -> dict[str, Any]:
    """The settings of a language model, or of one that writes codes of sound."""
    words = {} if tokenizer is None else {
        "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id
    }  # fmt: skip
    return {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, **words, **other,
    }  # fmt: skip


ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
SIGHT = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
}
HEARING = {
    "num_mel_bins": 80, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16,
    "output_dim": 32,
}  # fmt: skip


def save_qwen25_omni(folder: Path) -> None:
    """A Qwen2.5-Omni that hears, sees, thinks and speaks, all in one layer each."""
    torch.manual_seed(0)
    tokens = {f"{name}_token": f"<|{name}|>" for name in OMNI_TOKENS} | {"audio_token": "<|AUDIO|>"}
    features = WhisperFeatureExtractor(feature_size=80)
    tokenizer = _save_ears(folder, features, "<|audio_bos|><|AUDIO|><|audio_eos|>", tokens)
    ids = {f"{name}_token_index": getattr(tokenizer, f"{name}_token_id") for name in OMNI_TOKENS[:3]}
    thinker = {
        "text_config": _small(tokenizer, rope_parameters=ROPE), "audio_config": HEARING,
        "vision_config": SIGHT | {"fullatt_block_indexes": [0]}, **ids,
        "audio_start_token_id": tokenizer.audio_bos_token_id, "audio_end_token_id": tokenizer.audio_eos_token_id,
        "vision_start_token_id": tokenizer.vision_bos_token_id,
    }  # fmt: skip
    talker = _small(rope_parameters=ROPE, embedding_size=32, head_dim=16)
    diffusion = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16, "emb_dim": 16,
        "num_embeds": 65, "enc_emb_dim": 8, "enc_dim": 8, "enc_channels": [8, 8, 8, 8, 24], "enc_attention_channels": 8,
        "enc_se_channels": 8, "look_ahead_layers": [0], "look_backward_layers": [0],
    }  # fmt: skip
    voice = {"dit_config": diffusion, "bigvgan_config": {"upsample_initial_channel": 64}}
    config = Qwen2_5OmniConfig(thinker_config=thinker, talker_config=talker, token2wav_config=voice)
    Qwen2_5OmniForConditionalGeneration(config).save_pretrained(folder)


def save_qwen3_omni(folder: Path) -> None:
    """A Qwen3-Omni that hears, sees, thinks and speaks, all in one layer each, with four experts."""
    torch.manual_seed(0)
    tokens = {f"{name}_token": f"<|{name}|>" for name in OMNI_TOKENS} | {"audio_token": "<|audio_pad|>"}
    features = WhisperFeatureExtractor(feature_size=80)
    tokenizer = _save_ears(folder, features, "<|audio_bos|><|audio_pad|><|audio_eos|>", tokens)
    experts = {"head_dim": 16, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
    text = _small(tokenizer, rope_parameters=ROPE, **experts)
    thinker = {
        "text_config": text, "audio_config": HEARING | {"downsample_hidden_size": 8},
        "vision_config": SIGHT | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in OMNI_TOKENS[:3]},
        "audio_start_token_id": tokenizer.audio_bos_token_id, "vision_start_token_id": tokenizer.vision_bos_token_id,
    }  # fmt: skip
    talker = {
        "text_config": _small(rope_parameters=ROPE, shared_expert_intermediate_size=16, **experts),
        "code_predictor_config": _small(head_dim=16, num_code_groups=4), "num_code_groups": 4,
        "thinker_hidden_size": 32, "spatial_merge_size": 2,
    }  # fmt: skip
    voice = _small(
        codebook_size=16, num_quantizers=4, upsample_rates=[2, 2], upsampling_ratios=[2, 2], decoder_dim=32
    )
    config = Qwen3OmniMoeConfig(thinker_config=thinker, talker_config=talker, code2wav_config=voice)
    Qwen3OmniMoeForConditionalGeneration(config).save_pretrained(folder)


def save_phi4_multimodal(folder: Path) -> None:
    """A Phi-4-multimodal of a layer or two each, without its adapters."""
    torch.manual_seed(0)
    tokens = {"image_token": "<|endoftext10|>", "audio_token": "<|endoftext11|>"}
    tokenizer = _save_ears(folder, Phi4MultimodalFeatureExtractor(), "<|endoftext11|>", tokens)
    sight = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8,
        "patch_size": 4, "crop_size": 8, "image_token_id": tokenizer.image_token_id,
    }  # fmt: skip
    hearing = {
        "hidden_size": 32, "intermediate_size": 32, "num_blocks": 2, "num_attention_heads": 2, "ext_pw_out_channel": 32,
        "depthwise_separable_out_channel": 32, "nemo_conv_channels": 8, "bias_max_distance": 50,
        "initializer_range": 0.3, "audio_token_id": tokenizer.audio_token_id,
    }  # fmt: skip
    model: Any = Phi4MultimodalForCausalLM(
        Phi4MultimodalConfig(
            **_small(tokenizer), bos_token_id=tokenizer.eos_token_id, initializer_range=0.3, vision_config=sight,
            audio_config=hearing,
        )
    )  # fmt: skip
    model.save_pretrained(folder)


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
