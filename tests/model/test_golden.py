"""The models of the original implementation give the original's outputs."""

from typing import Any

import pytest
import torch

from tests.model.conftest import NAMES, GoldenOf

GENERATED = [(n, f"gen{i}") for n in NAMES for i in range(2 if n == "whisper_stage1" else 8)]
TRAINED = [(n, f"train{i}") for n in NAMES for i in range(2 if n == "whisper_stage1" else 6)]


@pytest.mark.parametrize("name", NAMES)
def test_projected_frames(name: str, golden_of: GoldenOf) -> None:
    golden = golden_of(name)
    frames = golden.model.project(golden.model.encode(golden.tensors["x"], golden.tensors["x_lens"]))
    expected, lens = golden.tensors["audio.features"], golden.tensors["audio.features_lens"].tolist()
    assert [len(item) for item in frames] == lens
    for ours, theirs, num in zip(frames, expected, lens, strict=True):
        torch.testing.assert_close(ours, theirs[:num], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "key"), GENERATED)
def test_generated_tokens_are_equal(name: str, key: str, golden_of: GoldenOf) -> None:
    golden = golden_of(name)
    case = golden.case(key)
    options = {"max_new_tokens": 24, **case["kwargs"]}
    ids = golden.model.generate(golden.audios(case), case["messages"], return_ids=True, **options)
    for ours, theirs in zip(ids, golden.tensors[f"{key}.generated_ids"].tolist(), strict=True):
        assert ours == theirs[: len(ours)]
        assert set(theirs[len(ours) :]) <= {golden.cases["pad_token_id"]}
    assert golden.model.generate(golden.audios(case), case["messages"], **options) == case["response"]


@pytest.mark.parametrize(("name", "key"), GENERATED)
def test_prompt_embeddings(name: str, key: str, golden_of: GoldenOf, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = golden_of(name)
    case, seen = golden.case(key), {}
    monkeypatch.setattr(
        golden.model.llm, "generate", lambda **inputs: seen.update(inputs) or torch.zeros(0, 0)
    )
    golden.model.generate(golden.audios(case), case["messages"])
    mask = golden.tensors[f"{key}.attention_mask"]
    assert torch.equal(seen["attention_mask"], mask)
    assert torch.equal(seen["attention_mask"].sum(1), torch.tensor(case["input_lens"]))
    expected = golden.tensors[f"{key}.inputs_embeds"]
    torch.testing.assert_close(
        seen["inputs_embeds"] * mask[..., None], expected * mask[..., None], atol=1e-3, rtol=1e-3
    )


def training_inputs(golden: Any, case: dict[str, Any]) -> Any:
    frames = golden.model.project(golden.model.encode(*golden.features(case["wavs"])))
    return golden.model.prepare_training(case["messages"], frames)


@pytest.mark.parametrize(("name", "key"), TRAINED)
def test_training_rows(name: str, key: str, golden_of: GoldenOf) -> None:
    golden = golden_of(name)
    inputs = training_inputs(golden, golden.case(key))
    assert torch.equal(inputs["labels"], golden.tensors[f"{key}.labels"])
    assert torch.equal(inputs["attention_mask"], golden.tensors[f"{key}.attention_mask"])
    if f"{key}.inputs_embeds" in golden.tensors:
        expected = golden.tensors[f"{key}.inputs_embeds"]
        torch.testing.assert_close(inputs["inputs_embeds"], expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "key"), TRAINED)
def test_loss_accuracy_and_logits(name: str, key: str, golden_of: GoldenOf) -> None:
    golden = golden_of(name)
    out = golden.model(**training_inputs(golden, golden.case(key)), return_logits=True)
    torch.testing.assert_close(out.loss, golden.tensors[f"{key}.loss"][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.accuracy, golden.tensors[f"{key}.acc"][0])
    expected = golden.tensors[f"{key}.logits"]
    ours = out.logits[:, :: out.logits.shape[1] // expected.shape[1]]
    keep = golden.tensors[f"{key}.attention_mask"][:, :: out.logits.shape[1] // expected.shape[1]].bool()
    torch.testing.assert_close(ours[keep], expected[keep], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "key"), TRAINED)
def test_gradients(name: str, key: str, golden_of: GoldenOf) -> None:
    golden = golden_of(name)
    golden.model.zero_grad()
    golden.model(**training_inputs(golden, golden.case(key))).loss.backward()
    gradients = {n: p.grad for n, p in golden.model.named_parameters() if p.grad is not None}
    assert gradients.keys() == {n for n, _ in golden.model.named_parameters() if "_projector." in n}
    for parameter, ours in gradients.items():
        if (expected := golden.tensors.get(f"{key}.grad.{parameter}")) is not None:
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
