"""A language model with random weights and a tokenizer of single bytes: it answers the same nonsense."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def save_random_llm(folder: Path, **generation: object) -> None:
    """Write the model; `generation` goes into its generation_config.json."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=_SPECIAL[0], eos_token=_SPECIAL[2])
    fast.add_special_tokens({"additional_special_tokens": _SPECIAL[1:2]})
    pad, end = (fast.get_vocab()[token] for token in (_SPECIAL[0], _SPECIAL[2]))
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.5,
        bos_token_id=pad,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = Qwen2ForCausalLM(config)
    # Likely enough to end some answers early.
    model.lm_head.weight.data[end] *= 1.5
    model.generation_config.update(**generation)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
