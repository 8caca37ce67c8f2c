"""The language model in this process: greedy answers, in batches of like length.

Letters: B rows of a batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from azeros.device import default_device
from azeros.errors import ModelError, one_line
from azeros.sift.answers import Answer, Finished
from azeros.sift.profile import LLMProfile

if TYPE_CHECKING:
    from transformers import DynamicCache

# Finished rows leave the batch once they are this share of it; copying the cache for each would cost more.
_COMPACT_SHARE = 0.2
# A beginning that all prompts of a batch share is read once if it has at least so many tokens.
_MIN_SHARED_TOKENS = 8


class LocalLLM:
    """A causal language model that answers rendered prompts.

    Decoding respects what the model's own generation_config.json says of greedy decoding: end tokens and
    repetition penalty. Anything else in it that would change the answers is refused.
    """

    def __init__(self, profile: LLMProfile, max_new_tokens: int, batch_size: int) -> None:
        """Load the model onto the GPU in bfloat16 if there is one, else onto the CPU in float32.

        Raises:
            ModelError: its weights do not load, or it has unsupported generation settings.
        """
        self.profile = profile
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        if profile.unsupported:
            raise ModelError(
                f"{profile.llm.path}: generation_config.json sets {', '.join(profile.unsupported)}, which sift does "
                "not apply; take it out if plain greedy answers will do"
            )
        self._ends = profile.end_tokens | {profile.end_of_turn}
        self.device = default_device()
        self.model = _load_model(profile, self.device)

    @property
    def identity(self) -> dict[str, Any]:
        """As the batch changes the last bits of its rows, its size is part of it."""
        import transformers

        versions = [torch.__version__, transformers.__version__]
        return {
            "kind": "local",
            "batch_size": self.batch_size,
            "versions": versions,
            "device": self.device.type,
        }

    def batches(self, prompts: Sequence[str]) -> list[list[int]]:
        """Prompts of like length share a batch, longest first."""
        lengths = [len(ids) for ids in self.profile.encode(prompts)]
        order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
        return [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]

    def answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
        """One batch after the other."""
        for number, prompts in batches.items():
            tokens = self._generate(self.profile.encode(prompts))
            texts = self.profile.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            finished(number, [self._finish(text, row) for text, row in zip(texts, tokens, strict=True)])

    def _finish(self, text: str, tokens: list[int]) -> Answer:
        if tokens[-1] == self.profile.end_of_turn:
            return Answer.of(text, len(tokens), "stop")
        return Answer.of(text, len(tokens), "other_end" if tokens[-1] in self._ends else "length")

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """New tokens of each row up to and with its end token."""
        cache, num_shared = self._read_shared(prompts)
        ids, mask = self._pad([prompt[num_shared:] for prompt in prompts])
        mask = torch.cat([mask.new_ones(len(prompts), num_shared), mask], dim=1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, num_shared:]
        seen = self._seen(prompts)
        new: list[list[int]] = [[] for _ in prompts]
        rows = list(range(len(prompts)))  # of `new`, in the order of the batch
        active = [True] * len(rows)
        for _ in range(self.max_new_tokens):
            output = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            ids = self._choose(output.logits[:, -1].float(), seen)
            for index, token in enumerate(ids[:, 0].tolist()):
                if active[index]:
                    new[rows[index]].append(token)
                    active[index] = token not in self._ends
            if not any(active):
                break
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
            if active.count(False) >= _COMPACT_SHARE * len(rows):
                kept = [index for index, is_active in enumerate(active) if is_active]
                chosen = torch.tensor(kept, device=self.device)
                cache.batch_select_indices(chosen)
                ids, mask, positions = ids[chosen], mask[chosen], positions[chosen]
                seen = seen[chosen] if seen is not None else None
                rows, active = [rows[index] for index in kept], [True] * len(kept)
        return new

    def _read_shared(self, prompts: Sequence[list[int]]) -> tuple[DynamicCache, int]:
        """A cache of what all prompts begin with, a row for each, and the number of its tokens, 0 if not worth it.

        At least one token of each prompt is left to read. In the *_ssp modes the system message is shared.
        """
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        num_shared = _num_shared(prompts)
        if len(prompts) == 1 or num_shared < _MIN_SHARED_TOKENS:
            return cache, 0
        ids = torch.tensor([prompts[0][:num_shared]], device=self.device)
        self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(prompts))
        return cache, num_shared

    def _pad(self, prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, T) int64, padded on the left."""
        longest = max(len(prompt) for prompt in prompts)
        pad = self.profile.tokenizer.pad_token_id or 0
        ids = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _seen(self, prompts: Sequence[list[int]]) -> Tensor | None:
        """(B, V) bool, the tokens to penalise: those of the prompts."""
        if self.profile.repetition_penalty == 1.0:
            return None
        size = self.model.get_output_embeddings().weight.shape[0]
        seen = torch.zeros(len(prompts), size, dtype=torch.bool, device=self.device)
        for row, prompt in zip(seen, prompts, strict=True):
            row[prompt] = True
        return seen

    def _choose(self, logits: Tensor, seen: Tensor | None) -> Tensor:
        """The likeliest next tokens (B, 1) of logits (B, V), also marked in `seen`."""
        if seen is None:
            return logits.argmax(dim=-1, keepdim=True)
        penalty = self.profile.repetition_penalty
        logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
        chosen = logits.argmax(dim=-1, keepdim=True)
        seen.scatter_(1, chosen, True)
        return chosen


def _num_shared(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts begin with, at least one less than the shortest has."""
    first, last = min(prompts), max(prompts)  # what these two share, all share
    differ = (index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return min(next(differ, len(first)), min(len(prompt) for prompt in prompts) - 1)


def _load_model(profile: LLMProfile, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    llm = profile.llm
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    try:
        model = AutoModelForCausalLM.from_pretrained(llm.path, revision=llm.revision or "main", dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{llm.path}: no language model loads from it ({one_line(error)}); correct foundation.llm"
        ) from error
    return model.eval().to(device)
