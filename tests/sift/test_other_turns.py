"""Language models without Qwen's turns write targets in their own chat template, as they are trained in it."""

from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from azeros.errors import ModelError
from azeros.model.chat import ChatTemplate
from azeros.model.processing import AzerosProcessor
from azeros.params import Pretrained, load_params
from azeros.sift import doctor
from azeros.sift.answers import answer_all
from azeros.sift.local import LocalLLM
from azeros.sift.profile import LLMProfile, read_profile
from azeros.sift.prompts import render
from tests.conftest import ROOT
from tests.model.test_llms import FAMILIES, make_llm, make_tokenizer

SIFT = load_params(ROOT / "params.yaml").sift
OTHERS = ["Llama", "Gemma"]


@pytest.fixture(params=OTHERS)
def profile(request: pytest.FixtureRequest, tmp_path: Path) -> LLMProfile:
    return read_profile(Pretrained(path=str(make_llm(tmp_path, request.param, tied=True)), revision=None))


def test_a_target_is_asked_for_as_training_will_ask(profile: LLMProfile) -> None:
    processor = AzerosProcessor(_with_audio_token(profile.llm.path))
    for said in doctor.sample()[:3]:
        prompt = render("sit_sp", said, SIFT, profile.chat.prompt)
        row = [{"role": "user", "content": prompt.user_text}, {"role": "assistant", "content": "yes"}]
        learned = processor.encode_training(row)
        assert profile.encode([prompt.prompt]) == [learned.ids[: learned.num_prompt]]
        answer = profile.encode(["yes"])[0]
        assert learned.ids[learned.num_prompt :][: len(answer) + 1] == [*answer, profile.end_of_turn]


def _with_audio_token(folder: str) -> object:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|AUDIO|>"], special_tokens=True)
    return tokenizer


def test_answers_equal_those_of_transformers_in_the_models_template(profile: LLMProfile) -> None:
    llm = LocalLLM(profile, max_new_tokens=12, batch_size=4)
    asked = [[{"role": "user", "content": said.text}] for said in doctor.sample()[:6]]
    together = answer_all(llm, [profile.chat.prompt(turns) for turns in asked], lambda num: None)
    for turns, answer in zip(asked, together, strict=True):
        ids = profile.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")[
            "input_ids"
        ]
        new = llm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        text = profile.tokenizer.decode(new[0, ids.shape[1] :], skip_special_tokens=True)
        assert answer.text.removesuffix("<|truncated|>") == text


@pytest.mark.parametrize("family", FAMILIES)
def test_what_ends_a_turn_is_found(family: str, tmp_path: Path) -> None:
    profile = read_profile(Pretrained(path=str(make_llm(tmp_path, family, tied=True)), revision=None))
    assert profile.tokenizer.convert_ids_to_tokens(profile.end_of_turn) == FAMILIES[family][3]


def test_who_wrote_a_target_depends_on_the_template(tmp_path: Path) -> None:
    hashes = set()
    for family in ("Qwen2", *OTHERS):
        profile = read_profile(Pretrained(path=str(make_llm(tmp_path / family, family, True)), revision=None))
        hashes.add(profile.author(SIFT)["template"])
    assert len(hashes) == 3


def test_a_template_that_refuses_a_system_message_is_asked_in_the_other_modes(tmp_path: Path) -> None:
    gemma = read_profile(Pretrained(path=str(make_llm(tmp_path, "Gemma", tied=True)), revision=None))
    with pytest.raises(ModelError, match=r"refuses the conversation \(no system role\)"):
        render("sift_ssp", doctor.sample()[0], SIFT, gemma.chat.prompt)
    asked = doctor.questions(doctor.sample(), SIFT, gemma.chat)
    assert {mode for mode, _ in asked} == {"sift_s", "sift_sp", "sit_sp"}
    coverage, found = doctor.elicit(asked, LocalLLM(gemma, 4, 32), lambda num: None)
    assert set(coverage["age"]) == {"sift_s", "sift_sp", "sit_sp"}
    assert "in no mode" in found[-1].message
    files = {finding.check: finding for finding in doctor.check_files(gemma)}
    assert files["template, system"].status == "warning"


def test_a_template_that_writes_the_date_writes_the_same_each_day() -> None:
    tokenizer = make_tokenizer("Llama")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|begin_of_text|>", "<|begin_of_text|>{{ strftime_now('%d %b %Y') }}"
    )
    assert (
        ChatTemplate(tokenizer)
        .prompt([{"role": "user", "content": "hi"}])
        .startswith("<|begin_of_text|>26 Jul 2024")
    )


def test_what_a_server_adds_before_a_text_is_known() -> None:
    tokenizer = make_tokenizer("Llama")
    assert text_before_any(tokenizer) == ""
    begin = ("<|begin_of_text|>", tokenizer.convert_tokens_to_ids("<|begin_of_text|>"))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[begin]
    )
    assert text_before_any(tokenizer) == "<|begin_of_text|>"


def text_before_any(tokenizer: object) -> str:
    return LLMProfile.text_before_any(type("Profile", (), {"tokenizer": tokenizer})())
