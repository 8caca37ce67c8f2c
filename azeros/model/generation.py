"""How the language model is asked to generate (spec/AZEROS.md section 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from azeros.errors import ModelError

# Greedy, whatever the language model's own generation_config.json prefers.
GREEDY: dict[str, Any] = {
    "max_new_tokens": 200,
    "num_beams": 1,
    "do_sample": False,
    "min_length": 1,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "top_p": None,
    "top_k": None,
    "temperature": None,
}


class GeneratedRepetitionPenalty(LogitsProcessor):
    """Divides the positive and multiplies the negative logits of tokens that were generated already.

    Transformers 5 skips as many *generated* tokens of a row as there is padding before its prompt.
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids (B, n) int64, generated so far; scores (B, V) float -> (B, V)."""
        seen = scores.gather(1, input_ids)
        return scores.scatter(1, input_ids, torch.where(seen < 0, seen * self.penalty, seen / self.penalty))


def generate_ids(
    llm: Any, inputs: dict[str, Any], end_id: int, pad_id: int, options: dict[str, Any]
) -> list[list[int]]:
    """New token ids of each row, up to and with its end token.

    Args:
        llm: the language model.
        inputs: inputs_embeds (B, T, d) and attention_mask (B, T), padded on the left; a streamer, stopping criteria.
        end_id: token that ends an answer, unless `options` name others.
        pad_id: token that fills rows which ended before the others.
        options: settings of transformers' GenerationConfig; they replace those of GREEDY.

    Raises:
        ModelError: an option is not known, or the language model has not as many positions.
    """
    unknown = sorted(key for key in options if not hasattr(GenerationConfig(), key))
    if unknown:
        raise ModelError(f"generate() has no option {', '.join(unknown)}: see transformers' GenerationConfig")
    settings = {**GREEDY, "eos_token_id": end_id, "pad_token_id": pad_id, **options}
    length, limit = inputs["inputs_embeds"].shape[1], llm.config.get_text_config().max_position_embeddings
    new = settings["max_new_tokens"] or 0
    if length + new > limit:
        raise ModelError(
            f"a conversation of {length} tokens, those of its audio among them, and max_new_tokens {new} "
            f"are more than the {limit} that the language model takes: give less audio"
        )
    penalty = float(settings.pop("repetition_penalty"))
    processors = [GeneratedRepetitionPenalty(penalty)] if penalty != 1.0 else []
    out = llm.generate(**inputs, **settings, repetition_penalty=1.0, logits_processor=processors)
    ends = settings["eos_token_id"]
    ends = {ends} if isinstance(ends, int) else set(ends)
    return [_until_end(row, ends) for row in out.tolist()]


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    stop = next((index for index, token in enumerate(ids) if token in ends), len(ids))
    return ids[: stop + 1]
