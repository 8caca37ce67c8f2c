"""A language model without its weights: how it reads, where its turns end, what it can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azeros.errors import ModelError, one_line
from azeros.model.chat import ChatTemplate
from azeros.params import Pretrained, Sift
from azeros.sift.prompts import hash_template
from azeros.work import hash_files

# Settings of generation_config.json that change greedy answers, with values that do not.
_CHANGING: dict[str, tuple[object, ...]] = {
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


@dataclass(frozen=True)
class LLMProfile:
    """What is to be known of a language model before it is asked."""

    llm: Pretrained
    revision: str
    """The hash of its folder, or the commit on the hub."""
    tokenizer: Any
    chat: ChatTemplate
    end_tokens: frozenset[int]
    """At which generation ends by generation_config.json."""
    repetition_penalty: float
    context_tokens: int | None
    """The most tokens of prompt and answer together, if there is a limit."""
    unsupported: tuple[str, ...]
    """Settings of generation_config.json under which greedy answers are not what plain decoding gives."""
    special_tokens: tuple[str, ...]

    @property
    def end_of_turn(self) -> int:
        """The token that ends an answer."""
        return self.chat.end_token_id

    def author(self, settings: Sift) -> dict[str, str]:
        """Who writes the targets: the model, and the hash of what stands around transcripts in its prompts."""
        return {"llm_revision": self.revision, "template": hash_template(settings, self.chat.prompt)}

    def special_token_in(self, text: str) -> str | None:
        """A token of the model's that `text` spells out: as input it would act, not be read."""
        return next((token for token in self.special_tokens if token in text), None)

    def text_before_any(self) -> str:
        """What the tokenizer puts before every text unless told not to, as text."""
        alone, wrapped = (
            self.tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True)
        )
        return str(self.tokenizer.decode(wrapped[: wrapped.index(alone[0])]))

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered prompts."""
        ids: list[list[int]] = (
            self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"] if prompts else []
        )
        return ids


def read_profile(llm: Pretrained) -> LLMProfile:
    """Read tokenizer and settings.

    Raises:
        ModelError: nothing loads from `llm`, or its tokenizer has neither Qwen's turns nor a chat template.
    """
    from transformers import AutoTokenizer, GenerationConfig

    revision = llm.revision or "main"
    config = _config(llm)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(llm.path, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise _does_not_load(llm, error) from error
    try:
        generation = GenerationConfig.from_pretrained(llm.path, revision=revision)
    except OSError:  # it has none of its own
        generation = GenerationConfig.from_model_config(config)
    ends = generation.eos_token_id
    return LLMProfile(
        llm=llm,
        revision=_revision(llm, config),
        tokenizer=tokenizer,
        chat=ChatTemplate(tokenizer),
        end_tokens=frozenset([ends] if isinstance(ends, int) else ends or []),
        repetition_penalty=float(generation.repetition_penalty or 1.0),
        context_tokens=getattr(config.get_text_config(), "max_position_embeddings", None),
        unsupported=tuple(name for name in _CHANGING if _changes(name, getattr(generation, name, None))),
        special_tokens=tuple(sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()})),
    )


def _config(llm: Pretrained) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(llm.path, revision=llm.revision or "main")
    except (OSError, ValueError, KeyError) as error:
        raise _does_not_load(llm, error) from error


def _does_not_load(llm: Pretrained, error: Exception) -> ModelError:
    return ModelError(
        f"{llm.path}: no language model loads from it ({one_line(error)}); correct foundation.llm"
    )


def _revision(llm: Pretrained, config: Any) -> str:
    folder = Path(llm.path)
    if folder.is_dir():
        return hash_files([folder])
    return getattr(config, "_commit_hash", None) or llm.revision or "main"


def _changes(name: str, value: object) -> bool:
    return bool(value) and value not in _CHANGING[name]
