"""Answers equal the reference's and transformers' own, whatever the batch."""

import json
from pathlib import Path

import pytest
import torch

from azeros.errors import ModelError
from azeros.params import Pretrained
from azeros.sift.answers import TRUNCATED, answer_all
from azeros.sift.local import LocalLLM
from azeros.sift.profile import LLMProfile, read_profile
from tests.sift.random_llm import save_random_llm

# The first all begin alike, by more tokens than it takes to read the beginning once.
PROMPTS = [
    f"{'the same beginning ' * (number < 9)}<|im_start|>{'x' * (number % 7)}{number}<|im_end|>\n"
    for number in range(25)
]


def read(folder: Path) -> LLMProfile:
    return read_profile(Pretrained(path=str(folder), revision=None))


def test_answers_equal_the_reference(golden: Path) -> None:
    runs = [run for run in json.loads((golden / "sift" / "sift.json").read_text())["runs"] if "rows" in run]
    llm = LocalLLM(read(golden / "sift" / "llm"), max_new_tokens=10, batch_size=16)
    for run in runs:
        llm.max_new_tokens = run["max_new"]
        prompts = [prompt for batch in run["batches"] for prompt in batch]
        found = answer_all(llm, prompts, lambda num: None)
        assert [answer.text for answer in found] == [row["response"] for row in run["rows"]]


@pytest.mark.parametrize("batch_size", [1, 4, 9, 25])
def test_answers_equal_those_of_transformers_one_by_one(profile: LLMProfile, batch_size: int) -> None:
    llm = LocalLLM(profile, max_new_tokens=12, batch_size=batch_size)
    together = answer_all(llm, PROMPTS, lambda num: None)
    for prompt, answer in zip(PROMPTS, together, strict=True):
        ids = torch.tensor([profile.tokenizer(prompt)["input_ids"]])
        whole = llm.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        new = whole[0, ids.shape[1] :].tolist()
        ended = profile.end_of_turn in new
        text = profile.tokenizer.decode(new, skip_special_tokens=True)
        assert answer.text == text + ("" if ended else TRUNCATED)
        assert (answer.num_tokens, answer.finish_reason) == (len(new), "stop" if ended else "length")
    assert {answer.finish_reason for answer in together} == {"stop", "length"}


def test_an_end_that_is_not_the_turns_counts_as_cut_off(tmp_path: Path) -> None:
    save_random_llm(tmp_path)
    whole = answer_all(LocalLLM(read(tmp_path), 12, 25), PROMPTS, lambda num: None)
    token = read(tmp_path).encode([whole[0].text])[0][3]
    save_random_llm(tmp_path, eos_token_id=[read(tmp_path).end_of_turn, token])
    ended = answer_all(LocalLLM(read(tmp_path), 12, 25), PROMPTS[:1], lambda num: None)[0]
    assert (ended.finish_reason, ended.text.endswith(TRUNCATED)) == ("other_end", True)
    assert ended.num_tokens <= 4


def test_settings_that_would_be_ignored_are_refused(tmp_path: Path) -> None:
    save_random_llm(tmp_path, no_repeat_ngram_size=3)
    with pytest.raises(ModelError, match="no_repeat_ngram_size"):
        LocalLLM(read(tmp_path), 4, 4)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    save_random_llm(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no language model loads.*correct foundation\.llm"):
        LocalLLM(read(tmp_path), 4, 4)
