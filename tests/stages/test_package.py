"""The packaged folder is the trained model, and needs nothing beside it."""

import shutil
from pathlib import Path

import pytest
from safetensors import safe_open

from azeros import AZerosModel
from azeros.errors import ModelError
from azeros.foundation import build_model
from azeros.params import Params, load_params
from azeros.registry import Registry
from azeros.stages import package
from azeros.work import hash_files
from tests.small import complaint, run

MODEL, OUTPUT = Path("models/stage2"), Path("models/azeros")
RECORDING = Path("data/manifests/tiny/audio/test-00001.flac")
PROMPTS = ["", "repeat what was said.", "is the speaker male or female?"]


@pytest.fixture
def params(inputs: Path) -> Params:
    return load_params(inputs / "params.yaml")


def answers(model: AZerosModel) -> list[list[int]]:
    messages = [
        [{"role": "user", "content": f"{model.audio_token_wrapped} {prompt}".strip()}] for prompt in PROMPTS
    ]
    return model.generate([RECORDING] * len(PROMPTS), messages, return_ids=True, max_new_tokens=12)


def test_the_package_answers_as_the_trained_model(params: Params, inputs: Path) -> None:
    expected = answers(build_model(params, paraling=True, projectors=MODEL))
    package.run(params, MODEL, OUTPUT)
    shutil.move(OUTPUT, inputs / "elsewhere")
    shutil.rmtree("models")
    assert answers(AZerosModel.from_pretrained(inputs / "elsewhere")) == expected
    assert any(expected)


def test_a_release_finds_the_run_by_the_files(params: Params) -> None:
    package.run(params, MODEL, OUTPUT)
    assert "MLflow run" in Registry("any").runs_of(hash_files(OUTPUT.iterdir()))
    assert Registry("any").runs_of("0" * 64) == {}


def test_the_language_model_is_stored_as_asked(params: Params) -> None:
    half = params.model_copy(update={"package": params.package.model_copy(update={"dtype": "bfloat16"})})
    package.run(half, MODEL, OUTPUT)
    with safe_open(OUTPUT / "model.safetensors", "pt") as weights:
        kept = {(name.partition(".")[0], weights.get_slice(name).get_dtype()) for name in weights.keys()}  # noqa: SIM118
    assert ("llm", "BF16") in kept
    assert ("llm", "F32") not in kept
    assert all(dtype in ("F32", "I64", "BOOL") for part, dtype in kept if part != "llm")
    assert len(answers(AZerosModel.from_pretrained(OUTPUT))) == len(PROMPTS)


def test_a_missing_projector_file_is_named(params: Params) -> None:
    (MODEL / "projectors.safetensors").unlink()
    with pytest.raises(ModelError, match=r"models/stage2/projectors\.safetensors: no projectors there"):
        package.run(params, MODEL, OUTPUT)
    assert not OUTPUT.exists()


def test_a_stage_1_model_has_one_branch(params: Params) -> None:
    folder = Path("models/stage1")
    package.run(params, folder, OUTPUT)
    model = AZerosModel.from_pretrained(OUTPUT)
    assert model.paraling_encoder_projector is None
    assert answers(model) == answers(build_model(params, paraling=False, projectors=folder))


def test_chat_names_a_recording_that_cannot_be_heard(params: Params, inputs: Path) -> None:
    package.run(params, MODEL, OUTPUT)
    Path("empty.wav").touch()
    Path("noise.wav").write_bytes(b"no sound at all")
    for name, fault in (("empty.wav", "empty"), ("noise.wav", "unreadable"), ("gone.wav", "missing")):
        result = run("chat", name, "hello", "--model", str(inputs / OUTPUT))
        assert result.exit_code == 1
        assert complaint(result.stderr).startswith(f"azeros: {name}: {fault}; ")
