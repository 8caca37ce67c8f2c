"""The modality gap while training goes on, and what the model answers by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from azeros.evaluation.answers import speech_answers, text_answers
from azeros.evaluation.asks import Ask, plain_ask
from azeros.evaluation.gap import measure

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from azeros.model.speech_llm import AZerosModel
    from azeros.training.encoded import EncodedCuts

_BATCH_ROWS = 16


@dataclass
class Validated:
    """What was found at a step."""

    figures: dict[str, float]
    """gap_divergence: nats a token between what is expected from the transcript and from the speech; gap_agreement: share
    of tokens where the likeliest is the same."""
    answers: list[dict[str, str]]
    """said, the language model's answer to the transcript, and the answer to the speech."""


class Validation:
    """Held-out utterances with the language model's own answers to their transcripts, which are made once."""

    def __init__(
        self,
        model: AZerosModel,
        cuts: Sequence[Cut],
        encoded: EncodedCuts,
        max_new_tokens: int,
        num_answers: int,
    ) -> None:
        """Ask the language model of `model` about the transcripts.

        Args:
            model: what is trained.
            cuts: held-out utterances.
            encoded: their encoder outputs.
            max_new_tokens: of an answer.
            num_answers: utterances whose answers are shown, too.
        """
        self._model, self._encoded, self._max_new_tokens = model, encoded, max_new_tokens
        self._asks = [plain_ask(cut) for cut in cuts]
        self._shown = self._asks[:num_answers]
        self._durations_s = {cut.id: cut.duration for cut in cuts}
        self._expected: dict[Ask, str] = text_answers(model, self._asks, _BATCH_ROWS, max_new_tokens)

    def run(self, step: int) -> Validated:
        """Measure the model as it is after `step`."""
        name = f"step {step}"
        gaps = measure(
            name, self._model, self._asks, self._expected, self._encoded, self._max_new_tokens
        ).values()
        num_tokens = sum(gap.num_tokens for gap in gaps)
        heard = speech_answers(
            name,
            self._model,
            self._shown,
            self._encoded,
            self._durations_s,
            _BATCH_ROWS,
            self._max_new_tokens,
        )
        return Validated(
            {
                "gap_divergence": sum(gap.divergence for gap in gaps) / num_tokens,
                "gap_agreement": sum(gap.num_agreeing for gap in gaps) / num_tokens,
            },
            [
                {"step": str(step), "said": ask.text, "read": self._expected[ask], "heard": heard[ask]}
                for ask in self._shown
            ],
        )
