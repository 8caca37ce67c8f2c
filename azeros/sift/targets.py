"""The language model's own answers: greedy, in batches of like length, kept so that a killed run goes on.

Letters: B rows of a batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from azeros.errors import ModelError
from azeros.params import Pretrained
from azeros.sift.prompts import END_OF_TURN

if TYPE_CHECKING:
    from transformers import GenerationConfig

TRUNCATED = "<|truncated|>"
# Settings of generation_config.json that change greedy answers and are not applied, with values that do not.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "bad_words_ids": (),
    "begin_suppress_tokens": (),
    "encoder_no_repeat_ngram_size": (),
    "encoder_repetition_penalty": (1.0,),
    "exponential_decay_length_penalty": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1.0,),
    "min_length": (1,),
    "min_new_tokens": (),
    "no_repeat_ngram_size": (),
    "num_beams": (1,),
    "sequence_bias": (),
    "stop_strings": (),
    "suppress_tokens": (),
}
# Finished rows leave the batch once they are this share of it; copying the cache for each would cost more.
_COMPACT_SHARE = 0.2


@dataclass(frozen=True)
class Answer:
    """What the language model wrote."""

    text: str
    """Ends in `<|truncated|>` where the model did not end its turn."""
    num_tokens: int
    truncated: bool


class LocalLLM:
    """A causal language model in this process that answers rendered prompts greedily.

    Decoding respects what the model's own generation_config.json says of greedy decoding: end tokens and
    repetition penalty. Anything else in it that would change the answers is refused.
    """

    def __init__(self, llm: Pretrained, max_new_tokens: int) -> None:
        """Load the model onto the GPU in bfloat16 if there is one, else onto the CPU in float32.

        Raises:
            ModelError: nothing loads from `llm`, it has no chat tokens, or unsupported generation settings.
        """
        self.max_new_tokens = max_new_tokens
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer, self.model = _load(llm, self.device)
        settings: GenerationConfig = self.model.generation_config
        _refuse_unsupported(settings, llm)
        self.repetition_penalty = float(settings.repetition_penalty or 1.0)
        self.end_of_turn = self.tokenizer.convert_tokens_to_ids(END_OF_TURN)
        if self.end_of_turn is None or self.end_of_turn == self.tokenizer.unk_token_id:
            raise ModelError(f"{llm.path}: its tokenizer has no {END_OF_TURN}; use a model with ChatML turns")
        ends = settings.eos_token_id
        self.end_tokens = {self.end_of_turn, *([ends] if isinstance(ends, int) else ends or [])}
        specials = set(self.tokenizer.all_special_tokens) | set(self.tokenizer.get_added_vocab())
        self._special_tokens = sorted(specials)

    def special_token_in(self, text: str) -> str | None:
        """A token of the model's that `text` spells out: as input it would act, not be read."""
        return next((token for token in self._special_tokens if token in text), None)

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered prompts."""
        ids: list[list[int]] = (
            self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"] if prompts else []
        )
        return ids

    def answer(self, prompts: Sequence[list[int]]) -> list[Answer]:
        """Answers to one batch of prompts, given as token ids."""
        tokens = self._generate(prompts)
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [self._finish(text, row) for text, row in zip(texts, tokens, strict=True)]

    def _finish(self, text: str, tokens: list[int]) -> Answer:
        truncated = self.end_of_turn not in tokens
        return Answer(text + TRUNCATED if truncated else text, len(tokens), truncated)

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """New tokens of each row up to and with its end token."""
        from transformers import DynamicCache

        ids, mask = self._pad(prompts)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        seen = self._seen(ids, mask)
        cache = DynamicCache(config=self.model.config)
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
                    active[index] = token not in self.end_tokens
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

    def _pad(self, prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, T) int64, padded on the left."""
        longest = max(len(prompt) for prompt in prompts)
        pad = self.tokenizer.pad_token_id or 0
        ids = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _seen(self, ids: Tensor, mask: Tensor) -> Tensor | None:
        """(B, V) bool, the tokens to penalise: those of the prompts, without padding."""
        if self.repetition_penalty == 1.0:
            return None
        size = self.model.get_output_embeddings().weight.shape[0]
        seen = torch.zeros(len(ids), size, dtype=torch.bool, device=self.device)
        rows, columns = mask.nonzero(as_tuple=True)
        seen[rows, ids[rows, columns]] = True
        return seen

    def _choose(self, logits: Tensor, seen: Tensor | None) -> Tensor:
        """The likeliest next tokens (B, 1) of logits (B, V), also marked in `seen`."""
        if seen is None:
            return logits.argmax(dim=-1, keepdim=True)
        penalty = self.repetition_penalty
        logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
        chosen = logits.argmax(dim=-1, keepdim=True)
        seen.scatter_(1, chosen, True)
        return chosen


def answer_all(
    llm: LocalLLM, prompts: Sequence[str], batch_size: int, store: Path, advance: Callable[[int], object]
) -> list[Answer]:
    """Answers to all `prompts`, in their order; `advance(n)` is called for every n that are done.

    Rows of like length share a batch, longest first. Each finished batch is a line of `store`. Batches depend
    on nothing but the prompts, so a run that goes on after a kill computes what an uninterrupted one would.
    """
    ids = llm.encode(prompts)
    order = sorted(range(len(ids)), key=lambda index: (-len(ids[index]), index))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    answers: dict[int, Answer] = {}
    done = list(_stored(store))
    for batch, finished in zip(batches, done, strict=False):
        answers |= zip(batch, finished, strict=True)
        advance(len(batch))
    with store.open("a", encoding="utf-8") as stream:
        for batch in batches[len(done) :]:
            finished = llm.answer([ids[index] for index in batch])
            stream.write(json.dumps([asdict(answer) for answer in finished]) + "\n")
            stream.flush()
            answers |= zip(batch, finished, strict=True)
            advance(len(batch))
    return [answers[index] for index in range(len(ids))]


def _stored(store: Path) -> Iterator[list[Answer]]:
    """The finished batches of an earlier run; a line that it did not finish is cut off."""
    if not store.exists():
        return
    whole = store.read_bytes()
    lines = whole[: whole.rfind(b"\n") + 1]
    if len(lines) < len(whole):
        with store.open("r+b") as stream:
            stream.truncate(len(lines))
    for line in lines.splitlines():
        yield [Answer(**answer) for answer in json.loads(line)]


def _load(llm: Pretrained, device: torch.device) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    try:
        tokenizer = AutoTokenizer.from_pretrained(llm.path, revision=llm.revision or "main")
        model = AutoModelForCausalLM.from_pretrained(llm.path, revision=llm.revision or "main", dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{llm.path}: no language model loads from it ({reason}); correct foundation.llm"
        ) from error
    return tokenizer, model.eval().to(device)


def _refuse_unsupported(settings: GenerationConfig, llm: Pretrained) -> None:
    values = {name: getattr(settings, name, None) for name in _UNSUPPORTED}
    unsupported = [name for name, value in values.items() if value and value not in _UNSUPPORTED[name]]
    if unsupported:
        raise ModelError(
            f"{llm.path}: generation_config.json sets {', '.join(unsupported)}, which sift does not apply; "
            "take it out if plain greedy answers will do"
        )
