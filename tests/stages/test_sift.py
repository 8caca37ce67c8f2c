"""Targets: each cut gets the model's answer or a reason why not; a killed run goes on to the same bytes."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lhotse import MonoCut

from azeros.data.manifests import read_cuts, write_cuts
from azeros.errors import EndpointError, ManifestError, ModelError, ParamsError, StageError
from azeros.params import (
    LocalBackend,
    Mode,
    OpenAIBackend,
    Params,
    Pretrained,
    SiftSet,
    TranscriptMode,
    Unusable,
    load_params,
)
from azeros.sift import shards
from azeros.stages import sift
from azeros.work import hash_files
from tests.conftest import ROOT
from tests.openai_server import KEY, Reply, serve
from tests.sift.random_llm import save_random_llm
from tests.small import digests, make_cut

MANIFESTS, OUTPUT = Path("manifests"), Path("targets")
WRITTEN = ("response", "instruction", "input_text", "from_model", "finish_reason", "provenance")


@pytest.fixture
def params(here: Path) -> Params:
    save_random_llm(here / "llm", repetition_penalty=1.1)
    whole = load_params(ROOT / "params.yaml")
    llm = Pretrained(path="llm", revision=None)
    modes: dict[str, Mode | TranscriptMode] = {
        "bare": "sift_s",
        "told": "sift_sp",
        "asked": "sit_sp",
        "described": "sit_s",
        "transcribed": "tsit_s",
    }
    sets = {name: SiftSet(corpus="tiny", split="train", mode=mode) for name, mode in modes.items()}
    sets |= whole.sift.sets
    foundation = whole.foundation.model_copy(update={"llm": llm})
    return with_sift(
        whole.model_copy(update={"foundation": foundation}),
        sets=sets,
        max_new_tokens=16,
        backend=LocalBackend(kind="local", batch_size=8),
    )


def with_sift(params: Params, **update: object) -> Params:
    return params.model_copy(update={"sift": params.sift.model_copy(update=update)})


def write_manifest(num_cuts: int = 30, extra: tuple[MonoCut, ...] = ()) -> None:
    MANIFESTS.mkdir(exist_ok=True)
    cuts = [make_cut(f"cut{number}", f"Number {number} {'la ' * (number % 5)}") for number in range(num_cuts)]
    write_cuts([*cuts, *extra], MANIFESTS / "cuts_train.jsonl.gz")


def test_every_cut_gets_its_answer(params: Params) -> None:
    write_manifest()
    sift.run(params, "told", MANIFESTS, OUTPUT)
    before, after = (
        list(read_cuts(MANIFESTS / "cuts_train.jsonl.gz")),
        list(read_cuts(OUTPUT / "cuts.jsonl.gz")),
    )
    assert [cut.id for cut in after] == [cut.id for cut in before]
    custom = after[7].supervisions[0].custom
    assert custom.keys() == {"emotion", *WRITTEN}
    assert custom["provenance"]["mode"] == "sift_sp"
    assert custom["provenance"]["llm_revision"] == hash_files([Path("llm")])
    assert custom["provenance"]["generation"] == {
        "do_sample": False,
        "max_new_tokens": 16,
        "repetition_penalty": 1.1,
    }
    assert {len(cut.supervisions[0].custom["provenance"]["template"]) for cut in after} == {64}
    told = "<audio><meta>gender: female, emotion: sad</meta><text>number 7 la la</text></audio>"
    assert (custom["input_text"], custom["instruction"], custom["from_model"]) == (told, "", "llm")
    report = json.loads((OUTPUT / "report.json").read_text())
    assert (report["rows_in"], report["rows_out"], report["rejected"]) == (30, 30, {})
    said = [cut.supervisions[0].custom for cut in after]
    truncated = [row["response"].endswith("<|truncated|>") for row in said]
    assert truncated == [row["finish_reason"] != "stop" for row in said]
    assert 0 < sum(truncated) == report["truncated"] < 30
    assert not list(Path(".work/sift").iterdir())


def test_rejects_are_counted_and_named(params: Params) -> None:
    odd = (
        make_cut("none", None),
        make_cut("blank", "  "),
        make_cut("short", "hi", 0.2),
        make_cut("long", "hi", 31.0),
        make_cut("dense", "x" * 91),
        make_cut("token", "say <|im_end|> now"),
        make_cut("much", "字" * 500, 29.0),
        make_cut("number", 5),  # type: ignore[arg-type]
        make_cut("half", "half a \ud83d"),
    )
    write_manifest(5)
    with gzip.open(MANIFESTS / "cuts_train.jsonl.gz", "at") as stream:
        stream.writelines(json.dumps(cut.to_dict()) + "\n" for cut in odd)
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    report = json.loads((OUTPUT / "report.json").read_text())
    assert report["rejected"] == {
        "no text": 2,
        "shorter than filter.min_duration_s": 1,
        "longer than filter.max_duration_s": 1,
        "more text than filter.max_chars_per_s": 1,
        "special token in the text": 1,
        "prompt longer than the language model's context": 1,
        "text that is no text": 2,
    }
    assert (report["rows_in"], report["rows_out"]) == (14, 5)
    assert rejected() == [cut.id for cut in odd]


def rejected() -> list[str]:
    return [json.loads(line)["id"] for line in (OUTPUT / "rejects.jsonl").read_text().splitlines()]


def test_unusable_responses_are_rejected_only_when_asked(params: Params) -> None:
    write_manifest(12)
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    said = {cut.id: cut.supervisions[0].custom["response"] for cut in read_cuts(OUTPUT / "cuts.jsonl.gz")}
    assert len(said) == 12
    start = said["cut3"][:2]
    unusable = Unusable(empty=False, max_repeats=None, refusals=[start])
    sift.run(with_sift(params, unusable=unusable), "bare", MANIFESTS, OUTPUT)
    report = json.loads((OUTPUT / "report.json").read_text())
    refused = [key for key, text in said.items() if text.lower().startswith(start.lower())]
    assert rejected() == refused
    assert report["rejected"] == {"response that refuses": len(refused)}
    assert report["rows_out"] == 12 - len(refused)


def test_an_age_that_is_no_number_counts_as_unknown_and_is_counted(params: Params) -> None:
    cuts = [make_cut(f"{age}", "hello") for age in (None, 30, "30", "?", "old", [3], {"a": 1})]
    for cut, age in zip(cuts, (None, 30, "30", "?", "old", [3], {"a": 1}), strict=True):
        cut.supervisions[0].custom = {"age": age}
    write_manifest(0, tuple(cuts))
    sift.run(params, "told", MANIFESTS, OUTPUT)
    told = [cut.supervisions[0].custom["input_text"] for cut in read_cuts(OUTPUT / "cuts.jsonl.gz")]
    assert ["age" in text for text in told] == [False, True, True, False, False, False, False]
    assert json.loads((OUTPUT / "report.json").read_text())["unreadable_ages"] == 3


def test_every_row_of_many_blocks_is_accounted_for(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = (make_cut("none", None), make_cut("long", "hi", 31.0))
    write_manifest(23, odd)
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    whole = list(read_cuts(OUTPUT / "cuts.jsonl.gz"))
    monkeypatch.setattr(shards, "BLOCK_CUTS", 5)
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    blocks = list(read_cuts(OUTPUT / "cuts.jsonl.gz"))
    assert [cut.to_dict() for cut in blocks] == [cut.to_dict() for cut in whole]
    assert rejected() == ["none", "long"]


def test_unfinished_work_is_never_mixed(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after each number of batches, then run with other inputs or settings: as if it had never begun."""
    params = with_sift(params, backend=LocalBackend(kind="local", batch_size=2))
    write_manifest(12)
    stop_after(2, params, monkeypatch)
    others = [
        params,
        with_sift(params, max_new_tokens=9),
        with_sift(params, backend=LocalBackend(kind="local", batch_size=5)),
        with_sift(params, system_message="Be brief."),
    ]
    for other in others[1:]:
        assert not has_begun(other, monkeypatch)
    write_manifest(12, (make_cut("more", "one more"),))
    assert not has_begun(params, monkeypatch)
    write_manifest(12)
    save_random_llm(Path("llm"), repetition_penalty=1.3)
    assert not has_begun(params, monkeypatch)
    save_random_llm(Path("llm"), repetition_penalty=1.1)
    assert has_begun(params, monkeypatch)


class _Stopped(Exception):
    pass


def stop_after(num_batches: int, params: Params, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run until so many batches are answered; returns how many this run answered itself."""
    from azeros.sift.local import LocalLLM

    num_asked = 0
    finish = LocalLLM._generate

    def generate(self: LocalLLM, prompts: list[list[int]]) -> list[list[int]]:
        nonlocal num_asked
        if num_asked == num_batches:
            raise _Stopped
        num_asked += 1
        return finish(self, prompts)

    with monkeypatch.context() as patch:
        patch.setattr(LocalLLM, "_generate", generate)
        with pytest.raises(_Stopped):
            sift.run(params, "bare", MANIFESTS, OUTPUT)
    assert not OUTPUT.exists()
    return num_asked


def has_begun(params: Params, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a run would go on with what another has finished: it would meet another first batch."""
    before = {path: path.read_bytes() for path in Path(".work/sift").glob("*/*.jsonl")}
    stop_after(0, params, monkeypatch)
    after = {path: path.read_bytes() for path in Path(".work/sift").glob("*/*.jsonl")}
    return before.keys() == after.keys()


def test_instructions_follow_the_language(params: Params) -> None:
    write_manifest(2, (make_cut("zh", "你好", language="zh"),))
    sift.run(params, "asked", MANIFESTS, OUTPUT)
    custom = [cut.supervisions[0].custom for cut in read_cuts(OUTPUT / "cuts.jsonl.gz")]
    assert [row["instruction"] for row in custom] == [
        params.sift.instructions[key] for key in ("en", "en", "zh")
    ]
    assert all(row["input_text"].endswith(f"</audio> {row['instruction']}") for row in custom)


def test_an_ablation_asks_about_the_transcript_alone(params: Params) -> None:
    write_manifest(3)
    sift.run(params, "described", MANIFESTS, OUTPUT)
    custom = [cut.supervisions[0].custom for cut in read_cuts(OUTPUT / "cuts.jsonl.gz")]
    assert custom[2]["input_text"] == f"number 2 la la {params.sift.instructions['en']}"
    assert custom[2]["from_model"] == "llm"


def test_an_ablation_has_the_transcript_as_its_target_and_asks_no_model(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("azeros.sift.answers.make_backend", None)
    write_manifest(3, (make_cut("zh", "你好", language="zh"), make_cut("blank", " ")))
    sift.run(params, "transcribed", MANIFESTS, OUTPUT)
    custom = [cut.supervisions[0].custom for cut in read_cuts(OUTPUT / "cuts.jsonl.gz")]
    assert [row["response"] for row in custom] == ["number 0", "number 1 la", "number 2 la la", "你好"]
    assert [row["instruction"] for row in custom[2:]] == [
        params.sift.transcription[key] for key in ("en", "zh")
    ]
    assert {(row["finish_reason"], row["from_model"]) for row in custom} == {("stop", None)}
    assert json.loads((OUTPUT / "report.json").read_text())["rejected"] == {"no text": 1}


def test_faults_are_named_before_anything_is_generated(params: Params) -> None:
    with pytest.raises(StageError, match=r"no 'other' in sift\.sets"):
        sift.run(params, "other", MANIFESTS, OUTPUT)
    with pytest.raises(ManifestError, match="no such manifest"):
        sift.run(params, "bare", MANIFESTS, OUTPUT)
    write_manifest(0, (make_cut("a", ""),))
    with pytest.raises(ManifestError, match="none of its 1 rows"):
        sift.run(params, "bare", MANIFESTS, OUTPUT)
    write_manifest(1, (make_cut("ja", "はい", language="ja"),))
    with pytest.raises(ParamsError, match="cut ja has language 'ja'"):
        sift.run(params, "asked", MANIFESTS, OUTPUT)
    (Path("llm") / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no language model loads"):
        sift.run(params, "bare", MANIFESTS, OUTPUT)
    assert not OUTPUT.exists()


def test_a_server_that_fails_leaves_no_output(params: Params) -> None:
    backend = OpenAIBackend(
        kind="openai",
        base_url="http://127.0.0.1:9/v1",
        api_key_variable=None,
        model="m",
        max_concurrency=2,
        max_tries=1,
        timeout_s=1.0,
    )
    write_manifest(3)
    with pytest.raises(EndpointError, match=r"http://127\.0\.0\.1:9/v1: failed 1 .*what was done is kept"):
        sift.run(with_sift(params, backend=backend), "bare", MANIFESTS, OUTPUT)
    assert not OUTPUT.exists()
    assert len(list(Path(".work/sift").glob("*/000000.jsonl"))) == 1


def test_refused_prompts_are_rejects_and_a_broken_run_goes_on_to_the_same_bytes(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIFT_KEY", KEY)

    def answer(_: int, body: dict[str, Any]) -> Reply:
        if "number 3 " in body["prompt"]:
            return 400, {}, b"content policy"
        choice = {"text": body["prompt"][::-1], "finish_reason": "stop"}
        return 200, {}, json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}}).encode()

    with serve(answer) as server:
        backend = OpenAIBackend(
            kind="openai", base_url=server.base_url, api_key_variable="SIFT_KEY", model="m",
            max_concurrency=2, max_tries=1, timeout_s=10.0,
        )  # fmt: skip
        params = with_sift(params, backend=backend)
        write_manifest(12)
        sift.run(params, "bare", MANIFESTS, OUTPUT)
        whole = digests(OUTPUT)
        shutil.rmtree(OUTPUT)
        server.reply = lambda number, body: answer(0, body) if number < 12 + 7 else (403, {}, b"closed")
        with pytest.raises(EndpointError, match="HTTP 403 closed"):
            sift.run(params, "bare", MANIFESTS, OUTPUT)
        asked, server.reply = len(server.bodies), answer
        sift.run(params, "bare", MANIFESTS, OUTPUT)
        assert len(server.bodies) == asked + 12 - 7
    assert digests(OUTPUT) == whole
    report = json.loads((OUTPUT / "report.json").read_text())
    assert (report["rows_in"], report["rows_out"]) == (12, 11)
    assert report["rejected"] == {"refused by the server": 1}
    (line,) = (OUTPUT / "rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "cut3"
    assert "HTTP 400 content policy" in json.loads(line)["detail"]


def test_a_manifest_that_changes_meanwhile_is_refused(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azeros.sift.local import LocalLLM

    answer = LocalLLM.answer

    def change(*arguments: Any) -> None:
        answer(*arguments)
        write_manifest(3, (make_cut("more", "more"),))

    write_manifest(3)
    monkeypatch.setattr(LocalLLM, "answer", change)
    with pytest.raises(StageError, match="changed while it was read"):
        sift.run(params, "bare", MANIFESTS, OUTPUT)
    assert not OUTPUT.exists()


@pytest.mark.slow
def test_ten_thousand_in_ten_thousand_accounted_for(params: Params) -> None:
    MANIFESTS.mkdir()
    cuts = (make_cut(f"cut{n}", f"Number {n}" if n % 7 else None) for n in range(10_000))
    write_cuts(cuts, MANIFESTS / "cuts_train.jsonl.gz")
    params = with_sift(params, max_new_tokens=4, backend=LocalBackend(kind="local", batch_size=256))
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    report = json.loads((OUTPUT / "report.json").read_text())
    assert (report["rows_in"], report["rows_out"], report["rejected"]) == (10_000, 8571, {"no text": 1429})
    made = {cut.id: cut.supervisions[0].text for cut in read_cuts(OUTPUT / "cuts.jsonl.gz")}
    assert made == {f"cut{n}": f"Number {n}" for n in range(10_000) if n % 7}
    assert rejected() == [f"cut{n}" for n in range(0, 10_000, 7)]


_BLOCK_CUTS = 24
_RUN = f"""
import sys
from pathlib import Path
from azeros.params import Params
from azeros.sift import shards
from azeros.stages import sift
shards.BLOCK_CUTS = {_BLOCK_CUTS}
sift.run(Params.model_validate_json(sys.stdin.read()), "bare", Path("manifests"), Path("targets"))
"""


def _start(params: Params) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN], stdin=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdin is not None
    process.stdin.write(params.model_dump_json())
    process.stdin.close()
    return process


def test_shards_are_gathered_into_what_one_run_makes(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    from azeros.sift.local import LocalLLM

    write_manifest(30, (make_cut("none", None),))
    monkeypatch.setattr(shards, "BLOCK_CUTS", 4)
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    whole = digests(OUTPUT)
    shutil.rmtree(OUTPUT)
    for shard in ("3/3", "1/3", "2/3"):
        sift.run(params, "bare", MANIFESTS, OUTPUT, shards.Shard.parse(shard))
        assert not OUTPUT.exists()
    assert _num_stored() == 8
    monkeypatch.setattr(LocalLLM, "answer", lambda *arguments: pytest.fail("asked again"))
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    assert digests(OUTPUT) == whole


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParamsError, match="like 2/8"):
        shards.Shard.parse(text)


@pytest.mark.slow
def test_killed_runs_go_on_to_the_same_bytes(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at random points, each run going on from where the one before was."""
    params = with_sift(params, max_new_tokens=60, backend=LocalBackend(kind="local", batch_size=2))
    write_manifest(80, (make_cut("none", None), make_cut("token", "say <|im_end|>")))
    monkeypatch.setattr(shards, "BLOCK_CUTS", _BLOCK_CUTS)
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    uninterrupted = digests(OUTPUT)
    shutil.rmtree(OUTPUT)
    rng, num_batches = random.Random(), 0
    for _ in range(4):
        num_batches += rng.randint(1, 8)
        process = _start(params)
        while process.poll() is None and _num_stored() < num_batches:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert num_batches <= _num_stored() < 40
        assert not OUTPUT.exists()
        num_batches = _num_stored()
    process = _start(params)
    assert process.wait() == 0
    assert digests(OUTPUT) == uninterrupted
    ids = [cut.id for cut in read_cuts(OUTPUT / "cuts.jsonl.gz")]
    assert ids == [f"cut{number}" for number in range(80)]
    assert rejected() == ["none", "token"]


def _num_stored() -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path(".work/sift").glob("*/*.jsonl"))
