"""How conversations are written for a language model: in the original's turns if it has Qwen's, else in its own chat template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2

from azeros.errors import ModelError

START_OF_TURN, END_OF_TURN = "<|im_start|>", "<|im_end|>"
GENERATION_PROMPT = f"{START_OF_TURN}assistant\n"
# In front of a template that writes today's date, it writes this one: targets, training and inference read the same each day.
_TODAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"

Turn = Mapping[str, str]
"""A role and its content."""


def render_chat(turns: Iterable[Turn]) -> str:
    """Turns in ChatML as the original trains on them: no system turn unless there is one (spec/AZEROS.md section 3)."""
    return "".join(f"{START_OF_TURN}{turn['role']}\n{turn['content']}{END_OF_TURN}\n" for turn in turns)


class ChatTemplate:
    """The templates of one tokenizer: that of training and of targets, and that of inference.

    They differ for a model with Qwen's turns alone: its own template may add a system turn, the original's does not.

    Attributes:
        has_qwen_turns: whether the tokenizer knows `<|im_start|>` and `<|im_end|>`.
        end_token_id: the token that ends an answer.
    """

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
        """`template` replaces the tokenizer's own.

        Raises:
            ModelError: the tokenizer has neither Qwen's turns nor a chat template, or nothing that ends an answer.
        """
        self._tokenizer = tokenizer
        own = template or tokenizer.chat_template
        self._template = f"{_TODAY}{own}" if own and "strftime_now" in own else own
        known = tokenizer.get_vocab()
        self.has_qwen_turns = START_OF_TURN in known and END_OF_TURN in known
        if not self.has_qwen_turns and not self._template:
            raise ModelError(
                f"{tokenizer.name_or_path}: its tokenizer has no chat template: use a language model that was trained to converse"
            )
        self.end_token_id: int = known[END_OF_TURN] if self.has_qwen_turns else self._find_end()

    @property
    def takes_system_turns(self) -> bool:
        """Whether a conversation may begin with a message of the system, as Gemma's may not."""
        try:
            self.prompt([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])
        except ModelError:
            return False
        return True

    def prompt(self, turns: Sequence[Turn]) -> str:
        """A conversation as training and targets have it, up to where the answer begins.

        Raises:
            ModelError: the chat template refuses the conversation.
        """
        return render_chat(turns) + GENERATION_PROMPT if self.has_qwen_turns else self.inference(turns)

    def inference(self, turns: Sequence[Turn], answered: bool = False) -> str:
        """A conversation in the tokenizer's own template; where it is not `answered`, up to where the answer begins.

        Raises:
            ModelError: the chat template refuses the conversation.
        """
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(turns),
                    tokenize=False,
                    add_generation_prompt=not answered,
                    chat_template=self._template,
                )
            )
        except jinja2.TemplateError as error:
            raise ModelError(
                f"the language model's chat template refuses the conversation ({error}): change its messages"
            ) from error

    def split(self, turns: Sequence[Turn]) -> tuple[str, str]:
        """What comes before the last answer, and the answer to its end, in the tokenizer's own template.

        Raises:
            ModelError: the chat template refuses the conversation, or an answer that was given does not follow what
                generation is given.
        """
        prompt, whole = self.inference(turns[:-1]), self.inference(turns, answered=True)
        answer = whole.removeprefix(prompt)
        if answer == whole or turns[-1]["content"].strip() not in answer:
            raise ModelError(
                "the language model's chat template writes an answer to learn otherwise than one to generate: give "
                "another template (chat_template.jinja in its folder)"
            )
        return prompt, answer

    def _find_end(self) -> int:
        """The first special token of an answer, or the tokenizer's own end."""
        _, answer = self.split([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        ids = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
        special = (token for token in ids if token in self._tokenizer.all_special_ids)
        end = next(special, self._tokenizer.eos_token_id)
        if end is None:
            raise ModelError(
                f"{self._tokenizer.name_or_path}: no token ends an answer: give the tokenizer an eos_token"
            )
        return int(end)
