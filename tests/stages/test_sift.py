"""Targets: each cut gets the model's answer or a reason why not; a killed run goes on to the same bytes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lhotse import MonoCut, SupervisionSegment

from azeros.data.manifests import read_cuts, write_cuts
from azeros.errors import ManifestError, ModelError, ParamsError, StageError
from azeros.params import Mode, Params, Pretrained, SiftSet, load_params
from azeros.stages import sift
from tests.conftest import ROOT
from tests.sift.random_llm import save_random_llm

MANIFESTS, OUTPUT = Path("manifests"), Path("targets")


@pytest.fixture
def params(here: Path) -> Params:
    save_random_llm(here / "llm", repetition_penalty=1.1)
    whole = load_params(ROOT / "params.yaml")
    llm = Pretrained(path="llm", revision=None)
    modes: dict[str, Mode] = {"bare": "sift_s", "told": "sift_sp", "asked": "sit_sp"}
    sets = {name: SiftSet(corpus="tiny", split="train", mode=mode) for name, mode in modes.items()}
    sets |= whole.sift.sets
    update = {"sets": sets, "max_new_tokens": 16, "batch_size": 8}
    return whole.model_copy(
        update={
            "foundation": whole.foundation.model_copy(update={"llm": llm}),
            "sift": whole.sift.model_copy(update=update),
        }
    )


def make_cut(name: str, text: str | None, duration_s: float = 3.0, language: str = "en") -> MonoCut:
    said = SupervisionSegment(
        name, name, 0.0, duration_s, text=text, language=language, gender="female", custom={"emotion": "sad"}
    )
    return MonoCut(name, 0.0, duration_s, channel=0, supervisions=[said])


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
    assert custom.keys() == {"emotion", "response", "instruction", "input_text", "from_model"}
    told = "<audio><meta>gender: female, emotion: sad</meta><text>number 7 la la</text></audio>"
    assert (custom["input_text"], custom["instruction"], custom["from_model"]) == (told, "", "llm")
    report = json.loads((OUTPUT / "report.json").read_text())
    assert (report["rows_in"], report["rows_out"], report["rejected"]) == (30, 30, {})
    truncated = [cut.supervisions[0].custom["response"].endswith("<|truncated|>") for cut in after]
    assert sum(truncated) == report["truncated"]
    assert not list(Path(".work/sift").iterdir())


def test_rejects_are_counted_and_named(params: Params) -> None:
    odd = (
        make_cut("none", None),
        make_cut("blank", "  "),
        make_cut("short", "hi", 0.2),
        make_cut("long", "hi", 31.0),
        make_cut("dense", "x" * 91),
        make_cut("token", "say <|im_end|> now"),
    )
    write_manifest(5, odd)
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    report = json.loads((OUTPUT / "report.json").read_text())
    assert report["rejected"] == {
        "no text": 2,
        "shorter than filter.min_duration_s": 1,
        "longer than filter.max_duration_s": 1,
        "more text than filter.max_chars_per_s": 1,
        "special token in the text": 1,
    }
    assert (report["rows_in"], report["rows_out"]) == (11, 5)
    rejects = [json.loads(line)["id"] for line in (OUTPUT / "rejects.jsonl").read_text().splitlines()]
    assert sorted(rejects) == sorted(cut.id for cut in odd)


def test_instructions_follow_the_language(params: Params) -> None:
    write_manifest(2, (make_cut("zh", "你好", language="zh"),))
    sift.run(params, "asked", MANIFESTS, OUTPUT)
    custom = [cut.supervisions[0].custom for cut in read_cuts(OUTPUT / "cuts.jsonl.gz")]
    assert [row["instruction"] for row in custom] == [
        params.sift.instructions[key] for key in ("en", "en", "zh")
    ]
    assert all(row["input_text"].endswith(f"</audio> {row['instruction']}") for row in custom)


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


_RUN = """
import sys
from pathlib import Path
from azeros.params import Params
from azeros.stages import sift
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


def _digests() -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in OUTPUT.iterdir()}


@pytest.mark.slow
def test_killed_runs_go_on_to_the_same_bytes(params: Params) -> None:
    update = {"max_new_tokens": 60, "batch_size": 4}
    params = params.model_copy(update={"sift": params.sift.model_copy(update=update)})
    write_manifest(80)
    for num_batches in (1, 8):
        process = _start(params)
        while process.poll() is None and _num_stored() < num_batches:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert num_batches <= _num_stored() < 20
        assert not OUTPUT.exists()
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    resumed = _digests()
    sift.run(params, "bare", MANIFESTS, OUTPUT)
    assert _digests() == resumed


def _num_stored() -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path(".work/sift").glob("*/answers.jsonl"))
