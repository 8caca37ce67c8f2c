"""Answers equal the reference's and transformers' own, whatever the batch; a cut-off run goes on."""

import json
from pathlib import Path

import pytest
import torch

from azeros.errors import ModelError
from azeros.params import Pretrained
from azeros.sift.targets import TRUNCATED, LocalLLM, answer_all
from tests.sift.random_llm import save_random_llm

PROMPTS = [f"<|im_start|>user\n{'x' * (number % 7)}{number}<|im_end|>\n" for number in range(25)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llm")
    save_random_llm(path, repetition_penalty=1.2)
    return path


@pytest.fixture(scope="module")
def llm(folder: Path) -> LocalLLM:
    return LocalLLM(Pretrained(path=str(folder), revision=None), max_new_tokens=12)


def answers(llm: LocalLLM, store: Path, batch_size: int = 4) -> list[str]:
    return [answer.text for answer in answer_all(llm, PROMPTS, batch_size, store, lambda num: None)]


def test_answers_equal_the_reference(golden: Path, tmp_path: Path) -> None:
    runs = [run for run in json.loads((golden / "sift" / "sift.json").read_text())["runs"] if "rows" in run]
    llm = LocalLLM(Pretrained(path=str(golden / "sift" / "llm"), revision=None), max_new_tokens=10)
    for number, run in enumerate(runs):
        llm.max_new_tokens = run["max_new"]
        prompts = [prompt for batch in run["batches"] for prompt in batch]
        found = answer_all(llm, prompts, 16, tmp_path / f"{number}.jsonl", lambda num: None)
        assert [answer.text for answer in found] == [row["response"] for row in run["rows"]]


def test_answers_equal_those_of_transformers_one_by_one(llm: LocalLLM, tmp_path: Path) -> None:
    together = answers(llm, tmp_path / "a.jsonl", batch_size=9)
    ends = 0
    for prompt, text in zip(PROMPTS, together, strict=True):
        ids = torch.tensor([llm.tokenizer(prompt)["input_ids"]])
        whole = llm.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        new = whole[0, ids.shape[1] :].tolist()
        ended = llm.end_of_turn in new
        ends += ended
        assert text == llm.tokenizer.decode(new, skip_special_tokens=True) + ("" if ended else TRUNCATED)
    assert 0 < ends < len(PROMPTS)


def test_a_cut_off_run_goes_on(llm: LocalLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = answers(llm, tmp_path / "whole.jsonl")
    content = (tmp_path / "whole.jsonl").read_bytes()
    for num_bytes in (0, 10, len(content) // 2, content.rfind(b"\n", 0, -1) + 1, len(content) - 1):
        (tmp_path / "cut.jsonl").write_bytes(content[:num_bytes])
        asked: list[int] = []
        with monkeypatch.context() as patch:
            answer = llm.answer
            patch.setattr(
                llm, "answer", lambda ids, answer=answer, asked=asked: (asked.append(1), answer(ids))[1]
            )
            assert answers(llm, tmp_path / "cut.jsonl") == whole
        assert len(asked) == 7 - content[:num_bytes].count(b"\n")
        assert (tmp_path / "cut.jsonl").read_bytes() == content


def test_spelt_out_special_tokens_are_found(llm: LocalLLM) -> None:
    assert llm.special_token_in("say <|im_end|> now") == "<|im_end|>"
    assert llm.special_token_in("say <unk> now") is None


def test_settings_that_would_be_ignored_are_refused(tmp_path: Path) -> None:
    save_random_llm(tmp_path, no_repeat_ngram_size=3)
    with pytest.raises(ModelError, match="no_repeat_ngram_size"):
        LocalLLM(Pretrained(path=str(tmp_path), revision=None), max_new_tokens=4)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"correct foundation\.llm"):
        LocalLLM(Pretrained(path=str(tmp_path / "gone"), revision=None), max_new_tokens=4)
