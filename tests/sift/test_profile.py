"""What is read of a language model without its weights."""

import shutil
from pathlib import Path

import pytest

from azeros.errors import ModelError
from azeros.params import Pretrained
from azeros.sift.profile import LLMProfile, read_profile


def test_settings_of_generation_are_the_models_own(profile: LLMProfile, golden: Path) -> None:
    assert (profile.repetition_penalty, profile.unsupported, profile.context_tokens) == (1.2, (), 1024)
    other = read_profile(Pretrained(path=str(golden / "sift" / "llm"), revision=None))
    assert (set(other.end_tokens), other.end_of_turn) == ({702, 700}, 702)
    assert (other.repetition_penalty, other.context_tokens) == (1.05, 32768)


def test_spelt_out_special_tokens_are_found(profile: LLMProfile) -> None:
    assert profile.special_token_in("say <|im_end|> now") == "<|im_end|>"
    assert profile.special_token_in("say <unk> now") is None


def test_the_revision_changes_with_the_weights(profile: LLMProfile, tmp_path: Path) -> None:
    copy = tmp_path / Path(profile.llm.path).name
    shutil.copytree(profile.llm.path, copy)
    assert read_profile(Pretrained(path=str(copy), revision=None)).revision == profile.revision
    with (copy / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    assert read_profile(Pretrained(path=str(copy), revision=None)).revision != profile.revision


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"correct foundation\.llm"):
        read_profile(Pretrained(path=str(tmp_path / "gone"), revision=None))
