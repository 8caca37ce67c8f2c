"""Models are read from both layouts and written so that nothing is lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from azeros.errors import ModelError
from azeros.model.checkpoint import load_projectors, save_projectors
from azeros.model.config import AUDIO_TOKEN, AzerosConfig
from azeros.model.processing import AzerosProcessor
from azeros.model.speech_llm import AZerosModel
from tests.model.conftest import NAMES, GoldenOf
from tests.small import digests


def same(a: AZerosModel, b: AZerosModel) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


@pytest.fixture
def saved(golden_of: GoldenOf, tmp_path: Path) -> Path:
    golden_of("stage2").model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit_weights(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    state = {**load_file(folder / "model.safetensors"), **change}
    save_file({k: v for k, v in state.items() if v is not None}, folder / "model.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_saved_models_load_exactly(name: str, golden_of: GoldenOf, tmp_path: Path) -> None:
    model = golden_of(name).model
    model.save_pretrained(tmp_path)
    loaded = AZerosModel.from_pretrained(tmp_path)
    assert same(model, loaded)
    messages = [[{"role": "user", "content": f"{model.audio_token_wrapped} <|im_end|>"}]]
    wave = torch.sin(torch.arange(16000) / 20)
    assert loaded.generate([wave], messages) == model.generate([wave], messages)
    assert AzerosProcessor.from_pretrained(tmp_path).encode_inference(messages[0]) == (
        model.processor.encode_inference(messages[0])
    )
    assert "shared" not in (tmp_path / "config.json").read_text()


def test_dtype_is_the_language_models(golden: Path, tmp_path: Path) -> None:
    half = AZerosModel.from_pretrained(golden / "azeros" / "stage2" / "checkpoint", dtype=torch.float16)
    assert {p.dtype for p in half.llm.parameters()} == {torch.float16}
    assert {p.dtype for n, p in half.named_parameters() if not n.startswith("llm.")} == {torch.float32}
    half.save_pretrained(tmp_path)
    assert same(half, AZerosModel.from_pretrained(tmp_path, dtype=torch.float16))
    assert {p.dtype for p in AZerosModel.from_pretrained(tmp_path).parameters()} == {torch.float32}


def test_whom_the_umask_lets_reads_the_weights(saved: Path) -> None:
    assert {path.stat().st_mode for path in saved.iterdir()} == {(saved / "config.json").stat().st_mode}


def test_tied_embeddings_are_written_once(golden: Path, saved: Path, tmp_path: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["llm_config"]["tie_word_embeddings"] = True
    (saved / "config.json").write_text(json.dumps(config))
    edit_weights(saved, {"llm.lm_head.weight": None})
    model = AZerosModel.from_pretrained(saved)
    assert model.llm.lm_head.weight.data_ptr() == model.llm.model.embed_tokens.weight.data_ptr()
    model.save_pretrained(tmp_path / "again")
    assert "llm.lm_head.weight" not in load_file(tmp_path / "again" / "model.safetensors")
    assert same(model, AZerosModel.from_pretrained(tmp_path / "again"))
    # A file that holds both, as torch.save writes them.
    edit_weights(saved, {"llm.lm_head.weight": model.llm.lm_head.weight.detach().clone()})
    assert same(model, AZerosModel.from_pretrained(saved))


def test_an_explicit_file_and_a_wrapped_pt_load(golden_of: GoldenOf, saved: Path) -> None:
    torch.save({"state_dict": load_file(saved / "model.safetensors")}, saved / "epoch.pt")
    (saved / "model.safetensors").unlink()
    assert same(golden_of("stage2").model, AZerosModel.from_pretrained(saved / "epoch.pt"))
    with pytest.raises(ModelError, match="no weights there"):
        AZerosModel.from_pretrained(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llm.model.norm.weight", None),
        ("llm.model.norm.weight", torch.zeros(3)),
        ("llm.model.extra", torch.zeros(3)),
        ("speech_encoder.encoder_embed.out.bias", None),
        ("paraling_encoder.extra", torch.zeros(3)),
        ("speech_encoder_projector.linear1.bias", None),
        ("paraling_encoder_projector.linear2.bias", torch.zeros(3)),
        ("talker.weight", torch.zeros(3)),
    ],
)
def test_tensors_that_do_not_fit_are_named(key: str, value: torch.Tensor | None, saved: Path) -> None:
    edit_weights(saved, {key: value})
    with pytest.raises(ModelError) as error:
        AZerosModel.from_pretrained(saved)
    assert key.partition(".")[2] in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_parts_are_named(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "azeros" / "stage2" / "checkpoint", folder)
    shutil.rmtree(folder / "paraling_encoder")
    with pytest.raises(ModelError, match="no folder paraling_encoder"):
        AZerosModel.from_pretrained(folder)
    shutil.rmtree(folder / "llm")
    with pytest.raises(ModelError, match=r"missing (llm|paraling_encoder)"):
        AZerosModel.from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        AZerosModel.from_pretrained(folder)


def test_a_foundation_gets_seeded_projectors_and_the_audio_token(golden: Path, tmp_path: Path) -> None:
    azeros, llm = golden / "azeros", golden / "sift" / "llm"
    encoders = [azeros / "stage2" / "checkpoint" / name for name in ("speech_encoder", "paraling_encoder")]
    model = AZerosModel.from_foundation(llm, *encoders, seed=1)
    state = torch.random.get_rng_state()
    assert same(model, AZerosModel.from_foundation(llm, *encoders, seed=1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not same(model, AZerosModel.from_foundation(llm, *encoders, seed=2))
    assert model.processor.audio_token_id == len(model.tokenizer) - 1
    assert model.tokenizer.convert_ids_to_tokens(model.processor.audio_token_id) == AUDIO_TOKEN
    assert len(model.llm.get_input_embeddings().weight) == model.llm.config.vocab_size
    model.save_pretrained(tmp_path)
    assert same(model, AZerosModel.from_pretrained(tmp_path))


def test_stage2_starts_from_the_projectors_of_stage1(golden: Path, tmp_path: Path) -> None:
    llm, parts = golden / "sift" / "llm", golden / "azeros" / "stage2" / "checkpoint"
    first = AZerosModel.from_foundation(llm, parts / "speech_encoder", seed=1)
    second = AZerosModel.from_foundation(llm, parts / "speech_encoder", parts / "paraling_encoder", seed=2)
    before = {name: value.clone() for name, value in second.state_dict().items()}
    save_projectors(first, tmp_path / "projectors.safetensors")
    load_projectors(second, tmp_path / "projectors.safetensors")
    assert torch.equal(
        first.speech_encoder_projector.linear1.weight, second.speech_encoder_projector.linear1.weight
    )
    changed = {name for name, value in second.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("speech_encoder_projector.")}
    save_projectors(second, tmp_path / "both.safetensors")
    with pytest.raises(ModelError, match="paraling_encoder_projector"):
        load_projectors(first, tmp_path / "both.safetensors")
    with pytest.raises(ModelError, match="no projectors there"):
        load_projectors(first, tmp_path / "none.safetensors")


def test_a_whole_whisper_is_a_speech_encoder(tmp_path: Path) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from azeros.model.foundation import load_encoder
    from azeros.model.whisper import log_mel

    size: dict[str, Any] = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 60}
    size |= {
        f"{side}_{what}": 8 for side in ("encoder", "decoder") for what in ("attention_heads", "ffn_dim")
    }
    ids: dict[str, Any] = {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "decoder_start_token_id": 1,
    }
    whole = WhisperForConditionalGeneration(WhisperConfig(**size, **ids)).eval()
    whole.save_pretrained(tmp_path)
    features = log_mel(torch.sin(torch.arange(480000) / 20).numpy(), 80)
    assert features.shape == (3000, 80)
    out = load_encoder(tmp_path)(features[None], torch.tensor([3000]))
    expected = whole.model.encoder(features.T[None]).last_hidden_state
    torch.testing.assert_close(out.encoder_out, expected, atol=1e-5, rtol=1e-5)
    assert out.encoder_out_lens.tolist() == [1500]


def test_auto_classes_load_a_model(saved: Path) -> None:
    from transformers import AutoConfig, AutoModel, AutoModelForMultimodalLM, AutoProcessor

    expected = AZerosModel.from_pretrained(saved)
    assert isinstance(AutoConfig.from_pretrained(saved), AzerosConfig)
    assert isinstance(AutoProcessor.from_pretrained(saved), AzerosProcessor)
    for auto in (AutoModel, AutoModelForMultimodalLM):
        assert same(auto.from_pretrained(saved), expected)
    half = AutoModel.from_pretrained(saved, dtype=torch.bfloat16, attn_implementation="eager")
    assert half.llm.dtype == torch.bfloat16
    assert half.llm.config._attn_implementation == "eager"


def test_a_device_map_places_the_whole_model(saved: Path) -> None:
    expected = AZerosModel.from_pretrained(saved)
    placed = AZerosModel.from_pretrained(saved, device_map={"": "cpu"})
    assert same(placed, expected)
    messages = [[{"role": "user", "content": expected.audio_token_wrapped}]]
    wave = torch.sin(torch.arange(16000) / 20)
    assert placed.generate([wave], messages) == expected.generate([wave], messages)


def test_projectors_alone_load_with_the_frozen_models_that_they_name(golden: Path, tmp_path: Path) -> None:
    parts = golden / "azeros" / "stage2" / "checkpoint"
    sources = [parts / name for name in ("llm", "speech_encoder", "paraling_encoder")]
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copytree(sources[0], tmp_path / "llm", dirs_exist_ok=True)
        shutil.copy(parts / name, tmp_path / "llm" / name)
    model = AZerosModel.from_foundation(tmp_path / "llm", *sources[1:], seed=5)
    model.save_pretrained(tmp_path / "saved", trainable_only=True)
    assert {key.partition(".")[0] for key in load_file(tmp_path / "saved" / "model.safetensors")} == {
        "speech_encoder_projector",
        "paraling_encoder_projector",
    }
    assert same(AZerosModel.from_pretrained(tmp_path / "saved"), model)
    shutil.rmtree(tmp_path / "llm")
    with pytest.raises(ModelError, match="llm: no such folder"):
        AZerosModel.from_pretrained(tmp_path / "saved")
    whole = AZerosModel.from_pretrained(parts)
    with pytest.raises(ModelError, match="save without trainable_only"):
        whole.save_pretrained(tmp_path / "other", trainable_only=True)


def test_a_config_of_a_newer_format_is_refused(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"format_version": 2}))
    with pytest.raises(ModelError, match="format_version is 2 and this azeros reads 1: upgrade"):
        AZerosModel.from_pretrained(saved)


def test_pushing_uploads_what_saving_writes(
    golden_of: GoldenOf, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import CommitInfo, HfApi

    pushed: dict[str, Any] = {}

    def upload(api: HfApi, *, repo_id: str, folder_path: str, **options: Any) -> CommitInfo:
        pushed.update(repo=repo_id, token=api.token, files=digests(Path(folder_path)), **options)
        return CommitInfo("https://huggingface.co/me/mine/commit/1", "m", "", "1")

    monkeypatch.setattr(HfApi, "create_repo", lambda api, repo_id, **options: pushed.update(options))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    address = golden_of("stage2").model.push_to_hub("me/mine", private=True, token="hf_1", revision="next")
    assert address.endswith("/commit/1")
    assert pushed.pop("files") == digests(saved)
    assert pushed == {
        "repo": "me/mine",
        "token": "hf_1",
        "private": True,
        "exist_ok": True,
        "revision": "next",
        "commit_message": "Upload AZerosModel",
    }
