"""The plan counts what the run then does, and the run says how right it was."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from azeros.errors import StageError
from azeros.params import load_params
from azeros.plan import plan_stage
from azeros.receipts import span
from tests.conftest import ROOT
from tests.small import FEW, run, write_params


@pytest.mark.parametrize(("name", "rows"), [("stage1", 60), ("stage2", 120)])
def test_what_is_counted_is_what_the_run_does(inputs: Path, name: str, rows: int) -> None:
    targets = Path("data/targets/sift_s" if name == "stage1" else "data/targets")
    params = load_params(write_params(Path("params.yaml"), FEW | {f"train.{name}.validation": None}))
    plan = plan_stage(params, name, targets, Path("models"))
    assert (plan.rows, plan.steps, plan.epochs) == (rows, 40, 40 * 4 / rows)
    branches = 1 if name == "stage1" else 2
    # What is stored already holds both branches, and the held-out utterances that were validated on.
    stored = sum(path.stat().st_size for path in Path(".work/encoded").rglob("*.safetensors"))
    assert plan.stored_gb * 1e9 == pytest.approx(stored * branches / 2, rel=0.4)
    assert plan.step_s > 0
    assert plan.encode_s > 0
    assert 0.1 < plan.memory_gb < 20
    assert 0 < plan.checkpoint_gb < 0.1
    result = run("train", name, "data/manifests", str(targets), "models/new")
    assert result.exit_code == 0, result.stderr
    (receipt,) = [json.loads(path.read_text()) for path in Path(".work/plan").glob("*.json")]
    assert receipt["stage"] == f"train@{name}"
    assert receipt["predicted_s"] == pytest.approx(plan.seconds, abs=0.1)
    assert receipt["took_s"] > 0


def test_what_is_encoded_for_each_batch_is_not_stored(inputs: Path) -> None:
    live = {"encoder_outputs": "live", "spec_augment": True, "micro_batch_size": 2}
    update = {f"train.stage1.{key}": value for key, value in live.items()}
    params = load_params(write_params(Path("params.yaml"), FEW | update))
    plan = plan_stage(params, "stage1", Path("data/targets/sift_s"), Path("models"))
    assert plan.encode_s == plan.stored_gb == 0
    assert "encoding" not in plan.lines()[3]


def test_processes_share_a_batch(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the processor's time, since others' work stretches that of the clock.
    monkeypatch.setattr("azeros.plan.time", SimpleNamespace(monotonic=time.process_time))
    params = load_params(write_params(Path("params.yaml"), FEW | {"train.stage1.batch_size": 32}))
    alone, shared = (
        plan_stage(params, "stage1", Path("data/targets/sift_s"), Path("models"), processes)
        for processes in (1, 16)
    )
    assert shared.step_s < alone.step_s
    assert (shared.steps, shared.epochs, shared.heard_hours) == (alone.steps, alone.epochs, alone.heard_hours)
    assert shared.lines()[4].endswith(" GB in each of 16 processes")
    with pytest.raises(StageError, match=r"33 processes cannot share batches of 32: raise train\.stage1"):
        plan_stage(params, "stage1", Path("data/targets/sift_s"), Path("models"), 33)


def test_processes_share_the_frozen_language_model(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = SimpleNamespace(
        step_s=1.0, encode_s=0.5, memory_gb=20.0, checkpoint_gb=0.1, tokens={"tiny_s": 30.0}
    )
    monkeypatch.setattr("azeros.plan._measure_steps", lambda *_: measured)
    (weights,) = (ROOT / "azeros/tiny/weights/llm").glob("*.safetensors")
    size_gb = sum(4 * tensor.numel() for tensor in load_file(weights).values()) / 1e9
    for spread, num_processes, elsewhere in ((False, 4, 0.0), (True, 1, 0.0), (True, 4, 0.75)):
        update = FEW | {"train.shard_llm": spread, "train.stage1.encoder_outputs": "live"}
        params = load_params(write_params(Path("params.yaml"), update))
        plan = plan_stage(params, "stage1", Path("data/targets/sift_s"), Path("models"), num_processes)
        assert plan.tokens == pytest.approx(30 * 40 * 4)
        assert 20 - plan.memory_gb == pytest.approx(elsewhere * size_gb)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(42.4, "42 s"), (200, "3 min"), (7500, "2 h 05"), (3600 * 100, "4 d 4 h")],
)
def test_spans_of_time(seconds: float, text: str) -> None:
    assert span(seconds) == text
