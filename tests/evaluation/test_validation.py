"""What is validated while training goes on is what the evaluate stage would find."""

import torch

from azeros import AZerosModel
from azeros.evaluation.answers import speech_answers, text_answers
from azeros.evaluation.asks import plain_ask
from azeros.evaluation.gap import figures, measure, slices
from azeros.evaluation.validation import Validation
from azeros.training.encoded import EncodedCuts
from tests.conftest import ROOT
from tests.small import make_cut

WEIGHTS = ROOT / "azeros/tiny/weights"


def test_figures_and_answers_are_those_of_the_evaluation() -> None:
    model = AZerosModel.from_foundation(str(WEIGHTS / "llm"), str(WEIGHTS / "speech_encoder"), seed=0)
    cuts = [
        make_cut(f"c{i}", text) for i, text in enumerate(("tom wants three red apples", "call bob", "no"))
    ]
    width = int(model.speech_encoder.output_dim)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    encoded = EncodedCuts({"speech": {cut.id: torch.randn(20, width, generator=generator) for cut in cuts}})
    found = Validation(model, cuts, encoded, max_new_tokens=12, num_answers=2).run(7)
    asks = [plain_ask(cut) for cut in cuts]
    read = text_answers(model, asks, 3, 12)
    whole = figures(slices(measure("all", model, asks, read, encoded, 12), cuts))
    assert found.figures == {name: figure.value for name, figure in whole.items()}
    durations_s = {cut.id: cut.duration for cut in cuts}
    heard = speech_answers("all", model, asks[:2], encoded, durations_s, 2, 12)
    assert found.answers == [
        {"step": "7", "said": ask.text, "read": read[ask], "heard": heard[ask]} for ask in asks[:2]
    ]
