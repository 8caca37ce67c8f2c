"""What every model does, whatever its weights."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from lhotse import Recording

from azeros.errors import AudioError, ModelError
from azeros.model.encoding import load_wave
from azeros.model.processing import RowTooLong
from azeros.model.speech_llm import AZerosModel
from tests.model.conftest import Golden, GoldenOf


def ask(model: AZerosModel, instruction: str = "") -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{model.audio_token_wrapped} {instruction}".strip()}]


def noise(duration_s: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(round(16000 * duration_s), generator=torch.Generator().manual_seed(seed))


def test_importing_azeros_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, azeros; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_text_only_answers_are_those_of_the_bare_language_model(stage2: Golden) -> None:
    model, messages = stage2.model, [{"role": "user", "content": "How old is the speaker?"}]
    ids = torch.tensor([model.processor.encode_inference(messages)])
    text = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert torch.equal(ids, model.tokenizer(text, return_tensors="pt")["input_ids"])
    bare = model.llm.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, pad_token_id=700)
    answers = model.generate([], [messages], return_ids=True, max_new_tokens=12)
    assert answers == bare[:, ids.shape[1] :].tolist()


def test_a_path_samples_features_and_encoder_outputs_give_the_same_answer(
    golden: Path, stage2: Golden
) -> None:
    from azeros.data.audio import load_audio
    from azeros.data.features import batch_fbank

    model, path = stage2.model, golden / "fbank" / "wavs" / "libri_1088.wav"
    features = batch_fbank([load_audio(path)])
    audios: list[Any] = [[path], [str(path)], [load_audio(path)], features, model.encode(*features)]
    answers = [model.generate(audio, [ask(model)], max_new_tokens=8)[0] for audio in audios]
    assert len(set(answers)) == 1


def test_every_kind_of_audio_gives_the_same_samples(golden: Path, tmp_path: Path) -> None:
    from azeros.data.audio import load_audio

    path = golden / "fbank" / "wavs" / "libri_1088.wav"
    samples = load_audio(path)
    cut = Recording.from_file(path).to_cut()
    low, rate = soundfile.read(path, dtype="float32")[0][::2].copy(), 8000
    soundfile.write(tmp_path / "low.wav", low, rate, subtype="FLOAT")
    same: list[Any] = [path, str(path), samples, torch.from_numpy(samples), (samples, 16000), cut]
    assert all(torch.equal(torch.as_tensor(load_wave(audio)), torch.from_numpy(samples)) for audio in same)
    resampled = torch.as_tensor(load_wave((low, rate)))
    torch.testing.assert_close(resampled, torch.from_numpy(load_audio(tmp_path / "low.wav")))


def test_audios_as_parts_of_a_message_are_heard_as_in_their_slots(stage2: Golden) -> None:
    model, first, second = stage2.model, noise(1.0), noise(0.7, seed=1)
    slot = model.audio_token_wrapped
    written = [{"role": "user", "content": f"compare {slot} {slot} now"}]
    parts = [
        {"type": "text", "text": "compare"},
        {"type": "audio", "array": first, "sampling_rate": 16000},
        {"type": "audio", "array": second, "sampling_rate": 16000},
        {"type": "text", "text": "now"},
    ]
    expected = model.generate([first, second], [written], return_ids=True, max_new_tokens=8)
    brought = [{"role": "user", "content": parts}]
    assert model.generate([], [brought], return_ids=True, max_new_tokens=8) == expected
    with pytest.raises(ModelError, match="in one way"):
        model.generate([first, second], [brought], max_new_tokens=8)


@pytest.mark.parametrize("name", ["stage2", "whisper_stage1"])
def test_by_length_each_audio_is_what_it_is_alone(name: str, golden_of: GoldenOf) -> None:
    model = golden_of(name).model
    waves = [noise(duration_s, seed) for seed, duration_s in enumerate((0.9, 1.6, 0.9, 0.5))]
    together = model.project(model.encode_audios(waves, by_length=True))
    alone = [frames for wave in waves for frames in model.project(model.encode_audios([wave]))]
    for ours, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-5)


def test_only_projectors_learn(golden: Path) -> None:
    model = AZerosModel.from_pretrained(golden / "azeros" / "stage2" / "checkpoint").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    row = [*ask(model), {"role": "assistant", "content": "yes"}]
    model(**model.prepare_training([row], model.project(model.encode_audios([noise(1.0)])))).loss.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "_projector." in name}
    assert not any(module.training for module in model.modules())


def test_loss_does_not_need_all_logits(stage2: Golden) -> None:
    model = stage2.model
    rows = [[*ask(model), {"role": "assistant", "content": text}] for text in ("yes", "the speaker is happy")]
    frames = model.project(model.encode_audios([noise(1.0), noise(0.6, 1)]))
    inputs = model.prepare_training(rows, frames)
    some, full = model(**inputs), model(**inputs, return_logits=True)
    assert some.logits is None
    assert full.logits.shape == (*inputs["labels"].shape, model.llm.config.vocab_size)
    torch.testing.assert_close(some.loss, full.loss)
    assert some.accuracy == full.accuracy


def test_repetition_penalty_equals_a_plain_loop(stage2: Golden) -> None:
    model, penalty = stage2.model, 1.7
    text = [[{"role": "user", "content": c}] for c in ("hi", "Describe all information you can hear.")]
    for messages, answer in zip(
        text, model.generate([], text, True, max_new_tokens=16, repetition_penalty=penalty), strict=True
    ):
        ids = model.processor.encode_inference(messages)
        new: list[int] = []
        while len(new) < 16 and new[-1:] != [model.processor.end_token_id]:
            logits = model.llm(torch.tensor([ids + new])).logits[0, -1]
            for token in set(new):
                logits[token] = logits[token] * penalty if logits[token] < 0 else logits[token] / penalty
            new.append(int(logits.argmax()))
        assert answer == new


def test_generating_leaves_the_tokenizer_as_it_was(stage2: Golden) -> None:
    stage2.model.generate([noise(1.0)], [ask(stage2.model)], max_new_tokens=1)
    assert stage2.model.tokenizer.padding_side == "right"


def test_slots_and_audios_must_match(stage2: Golden) -> None:
    model = stage2.model
    with pytest.raises(ModelError, match=r"4 audio slots .* 1 audios"):
        model.generate([noise(1.0)], [ask(model), ask(model)])
    with pytest.raises(ModelError, match=r"0 audio slots .* 1 audios"):
        model.generate([noise(1.0)], [[{"role": "user", "content": "hi"}]])
    with pytest.raises(ModelError, match="empty batch"):
        model.generate([], [])
    with pytest.raises(ModelError, match="max_new_tokns"):
        model.generate([], [[{"role": "user", "content": "hi"}]], max_new_tokns=3)


def test_too_short_and_too_long_audio_is_named(stage2: Golden, golden_of: GoldenOf) -> None:
    model = stage2.model
    with pytest.raises(AudioError, match="audio 1 has 20 feature frames"):
        model.generate([noise(1.0), noise(0.2)], [ask(model), ask(model)])
    for wave in (
        torch.zeros(2, 16000),
        torch.full((16000,), torch.nan),
        torch.zeros(16000, dtype=torch.int16),
    ):
        with pytest.raises(AudioError, match="one channel"):
            model.encode_audios([wave])
    frames = model.project(model.encode(torch.zeros(1, 4600, 80), torch.tensor([4600])))
    with pytest.raises(RowTooLong, match="of the 512 tokens"):
        model.prepare_training([[*ask(model), {"role": "assistant", "content": "ok"}]], frames)


def test_a_streamer_is_handed_the_answer_as_it_grows(stage2: Golden) -> None:
    from transformers import StoppingCriteriaList, TextIteratorStreamer

    model, audios, messages = stage2.model, [noise(1.0)], [ask(stage2.model)]
    (expected,) = model.generate(audios, messages, max_new_tokens=12)
    streamer = TextIteratorStreamer(model.tokenizer, skip_special_tokens=True)
    assert model.generate(audios, messages, streamer=streamer, max_new_tokens=12) == [expected]
    pieces = list(streamer)
    assert "".join(pieces) == expected
    assert len([piece for piece in pieces if piece]) > 1
    after_three = StoppingCriteriaList([lambda ids, scores, **_: torch.tensor([ids.shape[1] >= 3])])
    (ids,) = model.generate(
        audios, messages, return_ids=True, stopping_criteria=after_three, max_new_tokens=12
    )
    assert len(ids) == 3


def test_more_tokens_than_the_language_model_has_positions_are_refused(stage2: Golden) -> None:
    positions = stage2.model.llm.config.max_position_embeddings
    with pytest.raises(ModelError, match=f"more than the {positions} that the language model takes"):
        stage2.model.generate([], [[{"role": "user", "content": "hi"}]], max_new_tokens=positions)
