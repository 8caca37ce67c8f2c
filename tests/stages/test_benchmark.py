"""Every scorer on a small model: figures that a second scoring confirms, a kill that changes nothing, a judge asked once."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from azeros.work import WORK_ROOT
from tests.conftest import ROOT
from tests.openai_server import KEY, Reply, completion, serve
from tests.small import complaint, digests, run, start, wait_for, write_params

REPORT = Path("reports/benchmark")
STAGE = ["benchmark", str(REPORT)]
JUDGED = {"alpacaeval_full", "commoneval", "wildvoice", "sd-qa", "chat"}


def settings(**update: object) -> None:
    """Two rows a set for the packaged model and the language model in it."""
    document = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    text = document["benchmark"]["systems"]["text"]
    text["llm"]["path"] = str(ROOT / text["llm"]["path"])
    systems = {"azeros": document["benchmark"]["systems"]["azeros"], "text": text}
    few = {f"benchmark.data.{name}.num_rows": 2 for name in ("voicebench", "airbench")}
    write_params(Path("params.yaml"), {"benchmark.systems": systems, **few, **update})


@pytest.fixture(scope="module")
def benchmarked(small: Path, tmp_path_factory: pytest.TempPathFactory, tracking_store: str) -> Path:
    """A folder with the small model, packaged, and the stage's report on it."""
    folder = tmp_path_factory.mktemp("benchmarked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", tracking_store)
        shutil.copytree(small / "models/stage2", "models/stage2")
        settings()
        assert run("package", "models/stage2", "models/azeros").exit_code == 0
        # In a process of its own: how espeak-ng speaks depends on what it spoke there before.
        process = start(*STAGE)
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    return folder


@pytest.fixture
def again(benchmarked: Path, here: Path) -> Path:
    """The working directory of the test, with the model and what it answered."""
    for name in ("models", str(WORK_ROOT)):
        shutil.copytree(benchmarked / name, here / name)
    settings()
    return here


def scores(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(system, set) -> what was scored."""
    found = {path: json.loads(path.read_text()) for path in folder.glob("*/*.score.json")}
    return {(path.parent.name, figures["subset"]): figures for path, figures in found.items()}


def test_all_sets_are_answered_and_scored(benchmarked: Path) -> None:
    found = scores(benchmarked / REPORT)
    sets = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())["benchmark"]["sets"]
    heard = {("azeros", subset) for subset in (*sets["voicebench"], *sets["airbench"])}
    assert found.keys() == heard | {("text", subset) for subset in sets["voicebench"]}
    for (system, subset), figures in found.items():
        assert (figures["official"] is None) == ("official_absent" in figures), (system, subset)
        if subset in JUDGED:
            assert "no judge was asked" in figures["official_absent"]
    assert found["text", "ifeval"]["official"] == 100.0


def test_figures_are_those_of_azeros_score(benchmarked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for (system, subset), figures in scores(benchmarked / REPORT).items():
        if subset in JUDGED:
            continue
        monkeypatch.chdir(benchmarked / REPORT / system)
        assert json.loads(run("score", figures["benchmark"], subset, figures["file"]).stdout) == figures


def test_pages_and_metrics_tell_the_same(benchmarked: Path) -> None:
    metrics = json.loads((benchmarked / REPORT / "metrics.json").read_text())
    page = (benchmarked / REPORT / "leaderboard.md").read_text()
    assert metrics["text"]["ifeval"] == 100.0
    row = next(line for line in page.splitlines() if line.startswith("| text | ours, not the whole data |"))
    assert "| 100.00<br>" in row
    assert "**" not in row
    assert "<table>" in (benchmarked / REPORT / "leaderboard.html").read_text()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_report(benchmarked: Path, here: Path) -> None:
    shutil.copytree(benchmarked / "models", here / "models")
    settings()
    process = start(*STAGE)
    wait_for(".work/benchmark/*/azeros-bbh-*.partial.jsonl", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not REPORT.exists()
    process = start(*STAGE)
    process.communicate()
    assert process.returncode == 0
    assert digests(REPORT) == digests(benchmarked / REPORT)


def test_the_judge_is_asked_once_and_then_replayed(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(_: int, body: dict[str, Any]) -> Reply:
        asked = body["messages"][-1]["content"]
        if "### Reference answer" in asked:
            return completion("Yes", "No", "Yes")
        return completion("4", "5", "3") if "n" in body else completion("6 7")

    monkeypatch.setenv("JUDGE_KEY", KEY)
    with serve(judge) as server:
        judged = {
            "benchmark.judged": True,
            "evaluate.judge.base_url": server.base_url,
            "evaluate.judge.api_key_variable": "JUDGE_KEY",
        }
        settings(**judged)
        result = run(*STAGE)
        assert result.exit_code == 0, result.stderr
    first = digests(REPORT)
    found = scores(REPORT)
    assert found["azeros", "commoneval"]["official"] == 4.0
    assert found["azeros", "chat"]["parts"]["normal"]["official"] == 7.0
    assert found["azeros", "chat"]["parts"]["cir"]["official"] == 6.0
    assert found["azeros", "sd-qa"]["parts"]["gpt"]["official"] == 100.0
    assert "azeros panda-weights" in found["azeros", "sd-qa"]["official_absent"]
    shutil.rmtree(REPORT)
    assert run(*STAGE).exit_code == 0  # the server is gone
    assert digests(REPORT).keys() == first.keys()
    assert scores(REPORT) == found


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        ({"benchmark.asked": ["azeross"]}, "no 'azeross' in benchmark.systems; did you mean 'azeros'"),
        ({"benchmark.sets.voicebench": ["bbhh"]}, "voicebench has no set 'bbhh'; it has alpacaeval"),
        (
            {"benchmark.data.voicebench": {"recipe": "folder", "path": "gone", "partial": False}},
            "gone/alpacaeval_full: no test-*-of-*.parquet in it",
        ),
    ],
)
def test_what_cannot_be_asked_is_said_before_a_model_loads(
    here: Path, update: dict[str, object], problem: str
) -> None:
    settings(**update)
    result = run(*STAGE)
    assert result.exit_code == 1
    assert problem in complaint(result.stderr)
