"""From cuts to targets: each cut becomes a row of training data with its provenance, or is rejected with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.params import Mode, Params, TranscriptMode
from azeros.sift import shards
from azeros.sift.answers import Answer, Backend, answer_all
from azeros.sift.profile import LLMProfile
from azeros.sift.prompts import Prompt
from azeros.sift.responses import unusable
from azeros.sift.selection import Rejected, select

if TYPE_CHECKING:
    from lhotse.cut import Cut


@dataclass(frozen=True)
class Target:
    """A finished row."""

    cut: Cut
    """With response, instruction, input_text, from_model, finish_reason and provenance beside its transcript."""
    prompt: Prompt
    answer: Answer


class TargetMaker:
    """Makes the targets of one mode with one language model; tsit_s asks none."""

    def __init__(
        self, mode: Mode | TranscriptMode, params: Params, profile: LLMProfile, backend: Backend | None
    ) -> None:
        self.mode = mode
        self.params = params
        self.profile = profile
        self.backend = backend
        self.provenance = {
            "mode": mode,
            "backend": backend.identity if backend else "transcript",
            **profile.author(params.sift),
            "generation": {
                "do_sample": False,
                "max_new_tokens": params.sift.max_new_tokens,
                "repetition_penalty": profile.repetition_penalty,
            },
        }

    @property
    def key(self) -> dict[str, Any]:
        """What answers to given cuts depend on."""
        return {
            "filter": self.params.filter,
            "provenance": self.provenance,
            "block": shards.BLOCK_CUTS,
        }

    def make(
        self, cuts: Iterable[Cut], work: Path, advance: Callable[[int], object]
    ) -> Iterator[Target | Rejected]:
        """What becomes of each cut, in order.

        Args:
            cuts: of one utterance each.
            work: folder with what an earlier run of the same cuts and `key` has finished.
            advance: called with every number of cuts that are answered.

        Raises:
            ManifestError, ParamsError: as `select`.
            EndpointError: as `answer_all`.
        """
        for number, block in enumerate(shards.blocks(cuts)):
            selected, answers = self._answer(number, block, work, advance)
            remaining = iter(answers)
            for cut, prompt in zip(block, selected, strict=True):
                yield prompt if isinstance(prompt, Rejected) else self._judge(cut, prompt, next(remaining))

    def make_shard(
        self, cuts: Iterable[Cut], work: Path, advance: Callable[[int], object], shard: shards.Shard
    ) -> None:
        """Answer the blocks of cuts that belong to `shard`, where `make` with the same `work` will find them; else as `make`."""
        for number, block in enumerate(shards.blocks(cuts)):
            if shard.has(number):
                self._answer(number, block, work, advance)

    def _answer(
        self, number: int, block: list[Cut], work: Path, advance: Callable[[int], object]
    ) -> tuple[list[Prompt | Rejected], list[Answer]]:
        selected = [select(cut, self.mode, self.params, self.profile) for cut in block]
        prompts = [prompt for prompt in selected if isinstance(prompt, Prompt)]
        if self.backend is None:
            advance(len(prompts))
            return selected, [self._transcript(prompt) for prompt in prompts]
        rendered = [prompt.prompt for prompt in prompts]
        return selected, answer_all(self.backend, rendered, advance, work / f"{number:06d}.jsonl")

    def _transcript(self, prompt: Prompt) -> Answer:
        text = prompt.metadata["text"]
        (ids,) = self.profile.encode([text])
        return Answer(text, len(ids) + 1, "stop")  # with the end of the turn

    def _judge(self, cut: Cut, prompt: Prompt, answer: Answer) -> Target | Rejected:
        if answer.finish_reason == "refused":
            return Rejected(cut.id, "refused by the server", answer.text)
        reason = unusable(answer.text, self.params.sift.unusable)
        if reason:
            return Rejected(cut.id, reason, answer.text)
        return Target(self._with_target(cut, prompt, answer), prompt, answer)

    def _with_target(self, cut: Cut, prompt: Prompt, answer: Answer) -> Cut:
        from lhotse.utils import fastcopy

        (supervision,) = cut.supervisions
        target = {
            "response": answer.text,
            "instruction": prompt.instruction,
            "input_text": prompt.user_text,
            "from_model": self.profile.llm.path if self.backend else None,
            "finish_reason": answer.finish_reason,
            "provenance": self.provenance,
        }
        supervision = fastcopy(supervision, custom=(supervision.custom or {}) | target)
        return fastcopy(cut, supervisions=[supervision])
