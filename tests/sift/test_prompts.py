"""Prompts equal the reference byte for byte in all five modes."""

import gzip
import json
from collections.abc import Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pytest
from lhotse import MonoCut, SupervisionSegment

from azeros.data.manifests import write_cuts
from azeros.errors import ParamsError
from azeros.model.chat import GENERATION_PROMPT, render_chat
from azeros.params import Mode, Sift, load_params
from azeros.sift.prompts import read_metadata, render, wrap_metadata
from tests.conftest import ROOT
from tests.small import complaint, run

PARAMS = str(ROOT / "params.yaml")

# The reference takes the age "-4" for a young adult's; here it is unknown.
_MENDED = "utt011"


@cache
def settings() -> Sift:
    return load_params(ROOT / "params.yaml").sift


@pytest.fixture(scope="module")
def reference(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / "sift" / "sift.json").read_text())
    return content


def supervision(row: Mapping[str, Any], language: str | None) -> SupervisionSegment:
    return SupervisionSegment(
        row["id"],
        row["id"],
        0.0,
        1.0,
        text=row["text"],
        language=language,
        gender=row["gender"],
        custom=row["custom"],
    )


def test_metadata_and_parts_equal_the_reference(reference: dict[str, Any]) -> None:
    num_checked = 0
    for row in reference["supervisions"]:
        for language, wanted in row["by_language"].items():
            said = supervision(row, None if language == "None" else language)
            if row["id"] == _MENDED:
                assert read_metadata(said)["age"] == "?"
                continue
            assert read_metadata(said) == wanted["metadata"]
            for mode in get_args(Mode):
                num_checked += 1
                if "error" in wanted[mode]:
                    with pytest.raises(ParamsError, match=f"sift.instructions: cut {row['id']}"):
                        render(mode, said, settings())
                    continue
                prompt = render(mode, said, settings())
                parts = (prompt.input_text, prompt.instruction, prompt.system_message)
                assert parts == tuple(
                    wanted[mode][k] for k in ("input_text", "user_prompt", "system_message")
                )
    assert num_checked == 39 * 3 * 5


def test_rendering_equals_the_reference(reference: dict[str, Any]) -> None:
    rows = {row["id"]: row for row in reference["supervisions"]}
    for made in reference["runs"]:
        rendered = [prompt for batch in made.get("batches", []) for prompt in batch]
        for wanted, text in zip(made.get("rows", []), rendered, strict=True):
            prompt = render(made["mode"], supervision(rows[wanted["id"]], wanted["language"]), settings())
            if wanted["id"] == _MENDED and made["mode"] != "sift_s":
                continue
            assert prompt.prompt == text
            assert (prompt.user_text, prompt.instruction) == (wanted["input_text"], wanted["instruction"])


@pytest.mark.parametrize("packed", [False, True])
def test_the_command_renders_a_manifest_as_the_reference(
    reference: dict[str, Any], golden: Path, tmp_path: Path, packed: bool
) -> None:
    prompts = {
        (made["set"], made["mode"], row["id"]): prompt
        for made in reference["runs"]
        for row, prompt in zip(
            made.get("rows", []), chain.from_iterable(made.get("batches", [])), strict=True
        )
    }
    for language in ("zh", "en"):
        manifest = golden / "sift" / f"{language}.jsonl"
        if packed:
            manifest = tmp_path / f"{language}.jsonl.gz"
            manifest.write_bytes(gzip.compress((golden / "sift" / f"{language}.jsonl").read_bytes()))
        rows = [row for row in reference["supervisions"] if row["set"] == language]
        for mode in get_args(Mode):
            lines = _rendered(manifest, "--mode", mode, "--language", language)
            assert [line["id"] for line in lines] == [row["id"] for row in rows]
            for line, row in zip(lines, rows, strict=True):
                if row["id"] == _MENDED:
                    continue
                wanted = row["by_language"][language]
                assert line.pop("prompt") == prompts[language, mode, row["id"]]
                assert line == {
                    "id": row["id"],
                    "metadata": wanted["metadata"],
                    "input_text": wanted[mode]["input_text"],
                    "instruction": wanted[mode]["user_prompt"],
                    "system_message": wanted[mode]["system_message"],
                }


def test_without_a_language_the_command_takes_that_of_the_cut(tmp_path: Path) -> None:
    said = SupervisionSegment("said", "a", 0.0, 1.0, text="你好", language="zh")
    manifest = tmp_path / "cuts.jsonl.gz"
    write_cuts([MonoCut("cut", 0.0, 1.0, channel=0, supervisions=[said])], manifest)
    for arguments, instruction in (
        ((), settings().instructions["zh"]),
        (("--language", "en"), settings().instructions["en"]),
    ):
        (line,) = _rendered(manifest, "--mode", "sit_sp", *arguments)
        assert (line["id"], line["instruction"]) == ("cut", instruction)
    failed = run("sift", "render", str(manifest), "--mode", "sit_sp", "--language", "ja", "--params", PARAMS)
    assert failed.exit_code == 1
    assert complaint(failed.stderr).startswith("azeros: sift.instructions: cut said has language 'ja'")


def test_half_a_character_is_printed_as_json_can(tmp_path: Path) -> None:
    said = SupervisionSegment("said", "a", 0.0, 1.0, text="half a \ud83d")
    cut = MonoCut("cut", 0.0, 1.0, channel=0, supervisions=[said])
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut.to_dict()) + "\n")
    (line,) = _rendered(tmp_path / "cuts.jsonl", "--mode", "sift_s")
    assert line["input_text"] == "half a \ud83d"


def test_a_transcript_that_is_no_text_is_named(tmp_path: Path) -> None:
    cut = MonoCut(
        "cut", 0.0, 1.0, channel=0, supervisions=[SupervisionSegment("said", "a", 0.0, 1.0, text=5)]
    )
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut.to_dict()) + "\n")
    failed = run("sift", "render", str(tmp_path / "cuts.jsonl"), "--mode", "sift_s", "--params", PARAMS)
    assert failed.exit_code == 1
    assert complaint(failed.stderr) == "azeros: cut said: its text is 5; write it as a string"


def _rendered(manifest: Path, *arguments: str) -> list[dict[str, Any]]:
    result = run("sift", "render", str(manifest), *arguments, "--params", PARAMS)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_chat_equals_the_reference_template(reference: dict[str, Any]) -> None:
    from jinja2 import Template

    messages = [{"role": role, "content": f"{role} says"} for role in ("system", "user", "assistant", "user")]
    template = Template(reference["chat_template"])
    assert template.render(messages=messages) == render_chat(messages)
    with_prompt = template.render(messages=messages, add_generation_prompt=True)
    assert with_prompt == render_chat(messages) + GENERATION_PROMPT


def test_attributes_come_in_one_order_and_unknown_ones_not_at_all() -> None:
    told = wrap_metadata("hi", {"emotion": "sad", "gender": "?", "age": "senior"})
    assert told == "<audio><meta>age: senior, emotion: sad</meta><text>hi</text></audio>"
    assert wrap_metadata("hi", {}) == "<audio><meta></meta><text>hi</text></audio>"
