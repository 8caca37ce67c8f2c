"""Every stage leaves a run that MLflow can show, and no stage fails because MLflow does."""

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import torch

from azeros.params import load_params
from azeros.tracking import EXPERIMENT, PARENT_VARIABLE, PIPELINE_TAG, flatten, stage_run, store_uri
from tests.conftest import ROOT

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables: making one takes ten seconds, so it is made once."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for variable in (PARENT_VARIABLE, "DVC_STAGE", "DVC_EXP_NAME"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def client(here: Path, empty_database: Path) -> "MlflowClient":
    from mlflow import MlflowClient

    shutil.copy(empty_database, here / "mlflow.db")
    return MlflowClient(f"sqlite:///{here}/mlflow.db")


def kept(folder: Path) -> list[dict[str, object]]:
    (path,) = (folder / ".work" / "tracking").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_keeps_settings_curves_and_files(client: "MlflowClient", here: Path) -> None:
    (here / "report.md").write_text("fine")
    with stage_run("evaluate", {"evaluate": {"batch_size": 4, "corpora": ["tiny"]}, "seed": 1}) as run:
        run.log({"loss": 2.0, "accuracy": 0.5}, step=1)
        run.log({"loss": 1.0}, step=2)
        run.set_summary({"wer": 0.25})
        run.log_artifact(here / "report.md")
        run.log_table("answers", [{"said": "a", "heard": "b"}, {"said": "c", "heard": "c"}])
    assert run.id is not None
    record = client.get_run(run.id)
    assert record.data.params == {"evaluate.batch_size": "4", "evaluate.corpora": '["tiny"]', "seed": "1"}
    assert record.data.metrics == {"loss": 1.0, "accuracy": 0.5, "wer": 0.25}
    assert [(point.step, point.value) for point in client.get_metric_history(run.id, "loss")] == [
        (1, 2),
        (2, 1),
    ]
    assert sorted(file.path for file in client.list_artifacts(run.id)) == ["answers.json", "report.md"]
    assert (record.info.status, record.info.run_name) == ("FINISHED", "evaluate")
    assert "mlflow.parentRunId" not in record.data.tags


def test_an_experiment_in_a_folder_of_its_own_has_its_store_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (experiment := tmp_path / ".dvc/tmp/exps/standalone/tmpabc").mkdir(parents=True)
    for folder in (tmp_path, experiment):
        monkeypatch.chdir(folder)
        assert store_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_machine_is_watched(client: "MlflowClient", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    with stage_run("train", {}) as run:
        assert run.id is not None
        while "system/system_memory_usage_megabytes" not in client.get_run(run.id).data.metrics:
            time.sleep(0.05)
    used = client.get_run(run.id).data.metrics["system/system_memory_usage_megabytes"]
    assert used == pytest.approx(psutil.virtual_memory().used / 1e6, rel=0.5)


def test_no_point_of_a_long_curve_is_lost(client: "MlflowClient") -> None:
    with stage_run("train", {}) as run:
        for step in range(2345):
            run.log({"loss": float(step)}, step)
    assert run.id is not None
    history = client.get_metric_history(run.id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, step) for step in range(2345)]


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_ends_as_its_stage_does(
    client: "MlflowClient", error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), stage_run("train", {}) as run:  # noqa: PT012
        run.log({"loss": 1.0}, step=1)
        raise error
    assert run.id is not None
    assert client.get_run(run.id).info.status == status
    assert client.get_run(run.id).data.metrics == {"loss": 1.0}


def test_stages_of_one_pipeline_run_share_a_parent(
    client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = []
    for pipeline in ("one", "one", "two"):
        monkeypatch.setenv(PARENT_VARIABLE, pipeline)
        with stage_run("sift", {}) as run:
            assert run.id is not None
            parents.append(client.get_run(run.id).data.tags["mlflow.parentRunId"])
            assert client.get_run(parents[-1]).info.status == "RUNNING"
    assert parents[0] == parents[1] != parents[2]
    parent = client.get_run(parents[0])
    assert (parent.data.tags[PIPELINE_TAG], parent.info.status) == ("one", "FINISHED")


def test_a_pipeline_run_has_the_settings_and_final_figures_of_its_stages(
    client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, "one")
    for name, value, settings in (
        ("train@stage1", 1.0, {"schedule": {"base_lr": 0.1}}),
        ("train@stage1", 1.5, {"schedule": {"base_lr": 0.2}}),
        ("evaluate", 0.8, {"batch_size": 64}),
    ):
        with stage_run(name, settings) as run:
            run.log({"loss": 3.0}, step=1)
            run.set_summary({"stage1/plain": value})
    assert run.id
    child = client.get_run(run.id)
    parent = client.get_run(child.data.tags["mlflow.parentRunId"])
    assert parent.data.metrics == {"train.stage1/stage1/plain": 1.5, "evaluate/stage1/plain": 0.8}
    assert parent.data.params == {"train.stage1/schedule.base_lr": "0.1", "evaluate/batch_size": "64"}
    assert child.data.metrics == {"loss": 3.0, "stage1/plain": 0.8}


def test_runs_say_which_code_made_them(
    client: "MlflowClient", here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=e"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "m"]):
        subprocess.run([*git, *arguments], cwd=here, check=True)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=here, text=True).strip()
    monkeypatch.setenv("DVC_STAGE", "train@stage1")
    (here / "dvc.lock").write_text("stages: {}")
    with stage_run("train", {}) as run:
        assert run.id is not None
    tags = client.get_run(run.id).data.tags
    assert (tags["mlflow.source.git.commit"], tags["dvc.stage"]) == (head, "train@stage1")
    assert tags["python"] == sys.version.split()[0]
    assert tags["torch"] == torch.__version__
    told = subprocess.check_output(["sha256sum", "dvc.lock"], cwd=here, text=True)
    assert told.split()[0] == tags["dvc.lock_sha256"]
    assert Path(client.download_artifacts(run.id, "dvc.lock")).read_text() == "stages: {}"


def test_the_dvc_above_a_stage_names_the_pipeline_run(tmp_path: Path) -> None:
    child = "from azeros.tracking import _ancestor_dvc; print(_ancestor_dvc())"
    script = tmp_path / "dvc"  # as `python /path/to/dvc repro` appears among the processes
    script.write_text(
        "import subprocess, sys\n"
        f"for _ in range(2): subprocess.run([sys.executable, '-c', {child!r}], check=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), "repro"]
    first, second = subprocess.check_output(command, env=environment, text=True).split()
    assert first == second
    assert len(first.split(":")) == 3


def test_a_store_that_is_down_does_not_stop_a_stage(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with stage_run("train", {"seed": 1}) as run:
        run.log({"loss": 2.0}, step=1)
        run.log_artifact(here / "no such file")
        run.set_summary({"wer": 0.5})
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["azeros.tracking"]
    assert run.id is None
    settings, *points, last = kept(here)
    assert settings == {"run": "train", "run_id": None, "params": {"seed": "1"}}
    assert last["status"] == "FINISHED"
    assert [(point["key"], point["value"], point["step"]) for point in points] == [
        ("loss", 2, 1),
        ("wer", 0.5, 0),
    ]


def test_a_damaged_database_does_not_stop_a_stage(here: Path) -> None:
    (here / "mlflow.db").write_text("not a database" * 100)
    with stage_run("train", {}) as run:
        run.set_summary({"wer": 0.5})
    assert len(kept(here)) == 3


def test_the_next_stage_delivers_what_a_store_missed(
    client: "MlflowClient", here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    def fail() -> None:
        with stage_run("train", {"seed": 1}) as run:
            for step in range(2500):
                run.log({"loss": 1.0 * step}, step)
            raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        fail()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with stage_run("evaluate", {}):
        pass
    (experiment,) = [found for found in client.search_experiments() if found.name == EXPERIMENT]
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"train", "evaluate"}
    assert (runs["train"].data.params, runs["train"].info.status) == ({"seed": "1"}, "FAILED")
    curve = client.get_metric_history(runs["train"].info.run_id, "loss")
    assert sorted((point.step, point.value) for point in curve) == [(i, float(i)) for i in range(2500)]
    assert not list((here / ".work/tracking").glob("*.jsonl"))


def test_what_was_cut_off_or_is_still_written_stays(client: "MlflowClient", here: Path) -> None:
    folder = here / ".work/tracking"
    folder.mkdir(parents=True)
    point = {"run": "sift", "run_id": None, "key": "rows", "value": 2.0, "timestamp": 1, "step": 0}
    (folder / f"{os.getppid()}.jsonl").write_text(json.dumps(point) + "\n")
    (folder / "99999999.jsonl").write_text(json.dumps(point) + "\n" + '{"run": "si')
    with stage_run("evaluate", {}):
        pass
    assert [path.stem for path in folder.glob("*.jsonl")] == [str(os.getppid())]
    (experiment,) = [found for found in client.search_experiments() if found.name == EXPERIMENT]
    (sift,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'sift'")
    assert (sift.data.metrics, sift.info.status) == ({"rows": 2.0}, "KILLED")


def test_what_no_store_will_take_is_set_aside_and_the_rest_delivered(
    client: "MlflowClient", here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = here / ".work/tracking"
    folder.mkdir(parents=True)
    point = {"run": "sift", "run_id": None, "key": "rows", "value": 2.0, "timestamp": 1, "step": 0}
    (experiment_id,) = (found.experiment_id for found in client.search_experiments())
    deleted = client.create_run(experiment_id).info.run_id
    client.delete_run(deleted)
    unknown = [json.dumps(point | {"run_id": run_id}) + "\n" for run_id in ("0" * 32, deleted)]
    (folder / "99999998.jsonl").write_text("".join([*unknown, json.dumps(point) + "\n"]))
    (folder / "99999997.jsonl").write_text("\0\0\0\n")  # after a power cut
    (folder / "99999996.jsonl").write_bytes(b"\xff\n")
    for _ in range(2):
        with stage_run("evaluate", {}) as run:
            pass
        assert run.id
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == {
        "99999998.bad": "".join(unknown).encode(),
        "99999997.bad": b"\0\0\0\n",
        "99999996.bad": b"\xff\n",
    }
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 4
    assert all(".bad" in message for message in said)
    runs = client.search_runs(
        [client.get_run(str(run.id)).info.experiment_id], "attributes.run_name = 'sift'"
    )
    assert [found.data.metrics for found in runs] == [{"rows": 2.0}]


def test_a_store_lost_midway_keeps_what_is_still_to_come(
    client: "MlflowClient", here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stage_run("train", {}) as run:
        run_id = run.id
        run.set_summary({"before": 1.0})
        with sqlite3.connect(here / "mlflow.db") as connection:
            connection.execute("ALTER TABLE metrics RENAME TO gone")
        run.set_summary({"after": 2.0})
        run.set_summary({"later": 3.0})
    assert run_id is not None
    assert [point.get("key") for point in kept(here)] == ["after", "later", None]
    assert len([record for record in caplog.records if record.name == "azeros.tracking"]) == 1
    with sqlite3.connect(here / "mlflow.db") as connection:
        connection.execute("ALTER TABLE gone RENAME TO metrics")
    with stage_run("evaluate", {}):
        pass
    lost = client.get_run(run_id)
    assert lost.data.metrics == {"before": 1.0, "after": 2.0, "later": 3.0}
    assert lost.info.status == "FINISHED"


@pytest.mark.parametrize("module", ["azeros.registry", "azeros.tracking"])
def test_mlflow_reports_to_nobody(module: str) -> None:
    script = f"import {module}, mlflow.telemetry.client as t, mlflow; print(t.get_telemetry_client())"
    # What MLflow takes for a test, which it does not report.
    known = ("MLFLOW_DISABLE_TELEMETRY", "CI", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS")
    environment = {name: value for name, value in os.environ.items() if name not in known}
    command = [sys.executable, "-c", script]
    said = subprocess.check_output(command, env=environment | {"PYTHONPATH": str(ROOT)}, text=True)
    assert said == "None\n"


def test_settings_are_flattened_by_name() -> None:
    flat = flatten({"train": load_params(ROOT / "params.yaml").train, "seed": 1})
    assert flat["train.stage2.sets.tiny_sit"] == "0.5"
    assert flat["train.stage1.start_from"] == "null"
    assert flat["seed"] == "1"


@pytest.mark.slow
def test_two_stages_may_make_the_database_at_once(here: Path) -> None:
    script = "from azeros.tracking import stage_run\nwith stage_run('sift', {}) as run: print(run.id)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), PARENT_VARIABLE: "both"}
    command = [sys.executable, "-c", script]
    stages = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ids = [stage.communicate()[0].strip() for stage in stages]
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{here}/mlflow.db")
    parents = {client.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in ids}
    assert len(set(ids)) == 2
    assert len(parents) == 1
    assert [experiment.name for experiment in client.search_experiments()] == [EXPERIMENT, "Default"]
