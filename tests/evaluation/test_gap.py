"""The modality gap against one row and one token at a time, and its slices."""

from typing import Any

import pytest
import torch
from lhotse import MonoCut, SupervisionSegment

from azeros import AZerosModel
from azeros.evaluation.asks import Ask
from azeros.evaluation.gap import Gap, figures, measure, slices
from azeros.training.encoded import EncodedCuts

# Text -> the answer that both read; the last one did not end.
ANSWERS = {
    "turn on the oven": "the oven is on.",
    "你好": "hi",
    "": "",
    "call nine": "calling nine. this is about numbers.",
}
MAX_NEW_TOKENS = 8


def encoded(model: AZerosModel) -> EncodedCuts:
    drawn = torch.Generator().manual_seed(0)
    lengths = dict(zip(ANSWERS, (23, 40, 9, 31), strict=True))
    return EncodedCuts(
        {
            branch: {
                text: torch.randn(num, int(encoder.output_dim), generator=drawn)
                for text, num in lengths.items()
            }
            for branch, encoder in model.encoders().items()
        }
    )


@torch.no_grad()
def next_token(model: AZerosModel, messages: list[dict[str, str]], frames: list[Any], read: list[int]) -> Any:
    """Probabilities (V,) float64 after the prompt and `read`, for one row without padding."""
    text = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    table = model.llm.get_input_embeddings()
    parts: list[Any] = []
    for piece in text.split("<|AUDIO|>"):
        parts += [table(torch.tensor(model.tokenizer(piece)["input_ids"], dtype=torch.long)), *frames[:1]]
        frames = frames[1:]
    parts.append(table(torch.tensor(read, dtype=torch.long)))
    return model.llm(inputs_embeds=torch.cat(parts)[None]).logits[0, -1].double().softmax(dim=-1)


@torch.no_grad()
def test_gaps_are_those_of_each_token_by_itself(tiny_model: AZerosModel) -> None:
    outputs = encoded(tiny_model)
    asks = {text: Ask("plain", text, "", text, None) for text in ANSWERS}
    given = {ask: ANSWERS[text] for text, ask in asks.items()}
    gaps = measure("tiny", tiny_model, list(asks.values()), given, outputs, MAX_NEW_TOKENS)
    assert gaps.keys() == ANSWERS.keys()
    num_agreeing = 0
    for text, answer in ANSWERS.items():
        ids = tiny_model.tokenizer(answer)["input_ids"]
        ended = len(ids) < MAX_NEW_TOKENS
        assert ended == (text != "call nine")
        ids += [tiny_model.tokenizer.convert_tokens_to_ids("<|im_end|>")] if ended else []
        frames = tiny_model.project(outputs.batch([text]))
        divergence = 0.0
        for place in range(len(ids)):
            oracle, heard = (
                next_token(tiny_model, [{"role": "user", "content": content}], slots, ids[:place])
                for content, slots in ((text, []), (tiny_model.audio_token_wrapped, frames))
            )
            divergence += float((oracle * (oracle / heard).log()).sum())
            num_agreeing += int(oracle.argmax() == heard.argmax())
        assert gaps[text].num_tokens == len(ids)
        assert gaps[text].divergence == pytest.approx(divergence, rel=1e-3)
    assert sum(gap.num_agreeing for gap in gaps.values()) == num_agreeing
    assert 0 < num_agreeing < sum(gap.num_tokens for gap in gaps.values())


def cut(name: str, duration_s: float, gender: str | None, language: str = "en") -> MonoCut:
    said = SupervisionSegment(name, name, 0.0, duration_s, text="a", language=language, gender=gender)
    return MonoCut(name, 0.0, duration_s, channel=0, supervisions=[said])


def test_slices_are_means_over_the_tokens_of_those_in_them() -> None:
    cuts = [cut("a", 1.0, "male"), cut("b", 3.0, "female"), cut("c", 20.0, "female", "zh")]
    gaps = {"a": Gap(10, 5.0, 9), "b": Gap(2, 3.0, 0), "c": Gap(8, 0.8, 8)}
    parts = {(part.by, part.value.strip()): part for part in slices(gaps, cuts)}
    assert list(parts)[:3] == [("all", "all"), ("language", "en"), ("language", "zh")]
    assert {value for by, value in parts if by == "duration"} == {"0 to 2 s", "2 to 4 s", "16 s or more"}
    women = parts["gender", "female"]
    assert (women.num_utterances, women.agreement.count) == (2, 10)
    assert women.agreement.value == pytest.approx(8 / 10)
    assert women.divergence.value == pytest.approx(3.8 / 10)
    assert (women.agreement.low, women.agreement.high) == (0.0, 1.0)  # of two utterances, either twice
    assert parts["age", "?"].num_utterances == 3
    whole = figures(list(parts.values()))
    assert whole["gap_agreement"].value == pytest.approx(17 / 20)
    assert whole["gap_divergence"].value == pytest.approx(8.8 / 20)
