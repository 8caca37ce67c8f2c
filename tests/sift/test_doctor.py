"""The doctor finds what is wrong with a language model, and what it tells unasked."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from azeros.data.manifests import write_cuts
from azeros.params import Mode, Pretrained, Sift, load_params
from azeros.sift import doctor
from azeros.sift.answers import Answer, Finished
from azeros.sift.profile import LLMProfile, read_profile
from azeros.sift.prompts import Prompt
from tests.conftest import ROOT
from tests.sift.random_llm import save_random_llm
from tests.small import complaint, make_cut, run, write_params

TINY = ROOT / "azeros/tiny/weights/llm"


def findings(folder: Path) -> dict[str, doctor.Finding]:
    profile = read_profile(Pretrained(path=str(folder), revision=None))
    return {finding.check: finding for finding in doctor.check_files(profile)}


def change(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The tiny LLM, to be spoilt."""
    return Path(shutil.copytree(TINY, tmp_path / "llm"))


def test_the_tiny_llm_is_fit() -> None:
    assert {finding.status for finding in findings(TINY).values()} == {"ok"}


def test_a_system_prompt_that_only_inference_has_is_shown(golden: Path) -> None:
    found = findings(golden / "sift" / "llm")
    assert {name for name, finding in found.items() if finding.status != "ok"} == {
        "template, question",
        "template, answer",
    }
    assert found["template, question"].status == "warning"
    assert "You are Qwen, created by Alibaba Cloud." in found["template, question"].message
    assert found["decoding"].message == "greedy, repetition penalty 1.05"


def test_other_turns_and_thinking_are_found(copy: Path) -> None:
    template = (copy / "chat_template.jinja").read_text()
    thinking = template.replace(
        "{% endif %}", "{% if enable_thinking is false %}<think></think>{% endif %}{% endif %}"
    )
    (copy / "chat_template.jinja").write_text(thinking)
    assert findings(copy)["thinking"].status == "warning"
    (copy / "chat_template.jinja").write_text(template.replace("assistant\n", "assistant\n<think>\n"))
    assert "'<think>\\n'" in findings(copy)["template, question"].message
    (copy / "chat_template.jinja").write_text(template.replace("<|im_end|>", "</s>"))
    assert findings(copy)["template, answer"].status == "failed"
    (copy / "chat_template.jinja").unlink()
    assert findings(copy)["template"].status == "failed"


def test_tokens_that_would_act_are_found(copy: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<audio>"]})
    tokenizer.pad_token = "<|im_end|>"
    tokenizer.save_pretrained(copy)
    found = findings(copy)
    assert found["special tokens"].status == "failed"
    assert "<audio> would act" in found["special tokens"].message
    assert "no padding token" in found["turns"].message


def test_ends_and_decoding_are_found(copy: Path) -> None:
    change(copy, "generation_config.json", eos_token_id=0, no_repeat_ngram_size=3)
    found = findings(copy)
    assert (found["end"].status, found["decoding"].status) == ("warning", "failed")
    assert "no_repeat_ngram_size" in found["decoding"].message


class Model:
    """Tells what stands in the prompt, in modes whose prompts `listens` picks."""

    identity = {"kind": "model"}  # noqa: RUF012

    def __init__(self, told: str, needs: str) -> None:
        self.told, self.needs = told, needs

    def batches(self, prompts: Sequence[str]) -> list[list[int]]:
        return [[index] for index in range(len(prompts))]

    def answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
        for number, (prompt,) in batches.items():
            said = prompt if self.needs in prompt else self.told
            finished(number, [Answer.of(said, 1, "stop")])


def settings() -> Sift:
    return load_params(ROOT / "params.yaml").sift


def asked() -> list[tuple[Mode, Prompt]]:
    profile = read_profile(Pretrained(path=str(TINY), revision=None))
    return doctor.questions(doctor.sample(), settings(), profile.chat)


@pytest.mark.parametrize(
    ("needs", "advice"),
    [
        ("<|im_start|>user", "tells every attribute unasked: use SIFT, mode sift_sp"),
        ("You are a powerful", "tells every attribute unasked: use SIFT, mode sift_ssp"),
        ("Describe all", "when asked, not unasked: use SIT, mode sit_sp"),
        ("nothing", "in no mode does it tell every attribute"),
    ],
)
def test_advice_follows_what_is_told(needs: str, advice: str) -> None:
    coverage, found = doctor.elicit(asked(), Model("hm", needs), lambda num: None)
    assert advice in found[-1].message
    assert {c.total for c in coverage["age"].values()} == {32}
    assert coverage["gender"]["sift_s"].told == 0


def test_what_is_told_is_counted_by_whole_words() -> None:
    coverage, _ = doctor.elicit(asked(), Model("A female!", "never"), lambda num: None)
    assert {mode: c.told for mode, c in coverage["gender"].items()} == dict.fromkeys(doctor.MODES, 16)
    assert coverage["text"]["sift_s"].told == 0
    coverage, _ = doctor.elicit(asked(), Model("", "monday"), lambda num: None)
    assert coverage["text"]["sift_s"].told == 8


def test_half_of_a_character_in_a_manifest_is_one_line(tmp_path: Path) -> None:
    line = json.dumps(make_cut("half", "so \ud83d it goes").to_dict())
    (tmp_path / "cuts.jsonl").write_text(line + "\n")
    params = str(write_params(tmp_path / "params.yaml", {}))
    result = run("sift", "doctor", "--manifest", str(tmp_path / "cuts.jsonl"), "--params", params)
    assert r"supervision half: 'so \ud83d it goes' is no text" in complaint(result.stderr)


def test_answers_that_think_or_never_end_are_found(profile: LLMProfile) -> None:
    class Endless(Model):
        def answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
            for number in batches:
                finished(number, [Answer.of("<think>hm", 1, "length")])

    _, found = doctor.elicit(asked(), Endless("", ""), lambda num: None)
    assert [finding.status for finding in found] == ["warning", "failed", "warning"]


def test_what_a_server_says_when_it_refuses_tells_nothing() -> None:
    class Refusing(Model):
        def answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
            for number in batches:
                finished(number, [Answer("HTTP 400: a female, sad", 0, "refused")])

    coverage, found = doctor.elicit(asked(), Refusing("", ""), lambda num: None)
    assert found[0].status == "failed"
    assert "prompts are refused, the first by HTTP 400: a female, sad" in found[0].message
    assert {c.told for by_mode in coverage.values() for c in by_mode.values()} == {0}


def test_the_command_asks_about_a_manifest_and_says_what_fails(tmp_path: Path) -> None:
    write_cuts([make_cut(f"cut{n}", f"paul wants {n} apples") for n in range(9)], tmp_path / "cuts.jsonl.gz")
    params = str(write_params(tmp_path / "params.yaml", {}))
    result = run(
        "sift", "doctor", "--manifest", str(tmp_path / "cuts.jsonl.gz"), "--num", "4", "--params", params
    )
    assert (result.exit_code, "self-elicit: " in result.stdout) == (0, True)
    assert "% of 4" in result.stdout
    save_random_llm(tmp_path / "llm")  # without a chat template
    params = str(
        write_params(
            tmp_path / "params.yaml", {"foundation.llm": {"path": str(tmp_path / "llm"), "revision": None}}
        )
    )
    result = run("sift", "doctor", "--params", params)
    assert (result.exit_code, "failed   template: " in result.stdout) == (1, True)
