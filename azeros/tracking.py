"""What a stage did, remembered by MLflow: one parent run a pipeline run, a child run a stage.

Beside `azeros.registry` and `azeros.journal`, the only module that knows MLflow. Tracking never stops a stage: if the store fails, it warns
once, and the journal has the figures that are still to come, which the next stage delivers.
"""

import hashlib
import json
import logging
import os
import platform
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from azeros import journal
from azeros.errors import one_line
from azeros.work import WORK_ROOT, git

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

EXPERIMENT = "azeros"
PARENT_VARIABLE = "AZEROS_PARENT_RUN"  # names the pipeline run that a stage belongs to: any unique text
PIPELINE_TAG = "azeros.pipeline"  # holds that name, on the parent run
MODEL_TAG = "azeros.model_sha256"  # on the run that packaged a model: the way back from its files
_LOCK = Path("dvc.lock")  # says what the stage reads: the hashes of all data that is there when it begins
_DEFAULT_STORE = "mlflow.db"  # in the repository
_OWN_FOLDERS = "/.dvc/tmp/exps/"  # where DVC runs experiments that leave the workspace alone
_SQLITE = "sqlite:///"
_VERSIONS = ("azeros", "torch", "transformers", "lhotse")  # what decides upon results
_FLUSH_EVERY_S = 5.0  # a write to the store takes some 20 ms, too much for every training step
_METRICS_PER_REQUEST = 1000  # MLflow takes no more
_PARAMS_PER_REQUEST = 100
_BUSY_TIMEOUT_S = 10.0  # another stage's write takes milliseconds
_LOCK_TIMEOUT_S = 300.0  # making the database takes some 10 s, minutes on a busy machine

# Read by MLflow when it is imported, which is after this module. A server that is down then costs seconds, not minutes.
for _variable, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}.items():
    os.environ.setdefault(_variable, _value)


@dataclass(frozen=True)
class _Store:
    """A connection, and the runs in it."""

    client: "MlflowClient"
    run_id: str
    parent_id: str | None


@dataclass(frozen=True)
class _Point:
    key: str
    value: float
    timestamp: int  # ms since the epoch
    step: int


@dataclass
class StageRun:
    """The run of one stage. Whatever MLflow does, nothing here raises because of it."""

    name: str
    _store: _Store | None
    _lost_id: str | None = None
    """The run in a store that has gone."""
    _pending: list[_Point] = field(default_factory=list)
    _flushed_at_s: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str | None:
        """The run's id in the store, for provenance; None where the store is out of reach."""
        return self._store.run_id if self._store else None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add one point to each of the named curves."""
        now_ms = int(time.time() * 1000)
        self._pending += [_Point(key, float(value), now_ms, step) for key, value in metrics.items()]
        late = time.monotonic() - self._flushed_at_s > _FLUSH_EVERY_S
        if late or len(self._pending) >= _METRICS_PER_REQUEST:
            self._flush()

    def set_summary(self, metrics: Mapping[str, float]) -> None:
        """Record final figures, under names that no curve has; the pipeline run has them too, behind the stage's name."""
        self.log(metrics, step=0)
        self._flush()
        self._send(lambda store: _tell_parent(store, self.name, metrics))

    def set_tag(self, key: str, value: str) -> None:
        """Record a name that the run is to be found by."""
        self._send(lambda store: store.client.set_tag(store.run_id, key, value))

    def log_artifact(self, path: Path) -> None:
        """Keep a copy of a file, or of a folder under its name."""
        if path.is_dir():
            self._send(lambda store: store.client.log_artifacts(store.run_id, str(path), path.name))
        else:
            self._send(lambda store: store.client.log_artifact(store.run_id, str(path)))

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep a table, one mapping a row, as `<name>.json`, which MLflow shows and compares."""
        columns = {key: [row.get(key) for row in rows] for key in (rows[0] if rows else ())}
        self._send(lambda store: store.client.log_table(store.run_id, columns, f"{name}.json"))

    def close(self, status: str) -> None:
        """End the run; and the pipeline run, which the next stage of it opens again."""
        self._flush()
        if not self._send(lambda store: _terminate(store, status)):
            journal.keep([self._record(status=status)])

    def _flush(self) -> None:
        self._flushed_at_s = time.monotonic()
        while self._pending:
            batch = self._pending[:_METRICS_PER_REQUEST]
            if self._store is None:
                journal.keep([self._record(**asdict(point)) for point in batch])
            elif not self._send(lambda store, batch=batch: _send_points(store, batch, store.run_id)):  # type: ignore[misc]
                continue
            del self._pending[: len(batch)]

    def _send(self, action: Callable[[_Store], object]) -> bool:
        if self._store is None:
            return False
        try:
            action(self._store)
        except Exception as error:  # MLflow, SQLAlchemy, requests and sqlite3 each raise their own
            _warn(error)
            self._lost_id, self._store = self._store.run_id, None
            return False
        return True

    def _record(self, **what: Any) -> dict[str, Any]:
        return {"run": self.name, "run_id": self._lost_id, **what}


def _send_points(store: _Store, points: Sequence[_Point], run_id: str) -> None:
    from mlflow.entities import Metric

    store.client.log_batch(run_id, metrics=[Metric(**asdict(point)) for point in points])


def _tell_parent(store: _Store, stage: str, metrics: Mapping[str, float]) -> None:
    if store.parent_id:
        now_ms = int(time.time() * 1000)
        prefix = _within_parent(stage)
        points = [_Point(f"{prefix}/{key}", float(value), now_ms, 0) for key, value in metrics.items()]
        _send_points(store, points, store.parent_id)


def _within_parent(stage: str) -> str:
    return stage.replace("@", ".")  # which MLflow does not allow in a name


def _terminate(store: _Store, status: str) -> None:
    for run_id in (store.run_id, store.parent_id):
        if run_id:
            store.client.set_terminated(run_id, status)


def _warn(error: Exception) -> None:
    reason = one_line(error)
    logger.warning(
        "MLflow is out of reach (%s); the stage goes on, its figures in %s; check MLFLOW_TRACKING_URI (%s)",
        f"{type(error).__name__}: {reason}",
        journal.own_file(),
        store_uri(),
    )


@contextmanager
def stage_run(name: str, params: Mapping[str, Any]) -> Iterator[StageRun]:
    """Track the work of the block as a run called `name`, `params` flattened to `section.key`.

    The store is MLFLOW_TRACKING_URI, or ./mlflow.db. The run ends as FINISHED, FAILED or, after Ctrl-C or
    SIGTERM, KILLED.
    """
    try:
        run = StageRun(name, _open(name, params))
    except Exception as error:
        _warn(error)
        journal.keep([{"run": name, "run_id": None, "params": flatten(params)}])
        run = StageRun(name, None)
    if _LOCK.is_file():
        run.log_artifact(_LOCK)
    try:
        with _watched(run):
            yield run
    except Exception:
        run.close("FAILED")
        raise
    except BaseException:
        run.close("KILLED")
        raise
    run.close("FINISHED")


@contextmanager
def _watched(run: StageRun) -> Iterator[None]:
    """Record the machine's load, memory, disk, network and GPUs beside the curves, as often as MLflow does by default."""
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        typed: Callable[..., Any] = SystemMetricsMonitor  # its methods are not
        monitor = typed(run.id, tracking_uri=store_uri()) if run.id else None
        if monitor:
            monitor.start()
    except Exception as error:
        _warn(error)
        monitor = None
    try:
        yield
    finally:
        if monitor and run.id:  # where the store has gone, it would wait for it
            monitor.finish()


def flatten(params: Mapping[str, Any]) -> dict[str, str]:
    """One `a.b.c: text` for each setting of nested mappings and params sections."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        if isinstance(plain, Mapping):
            flat |= {f"{key}.{inner}": text for inner, text in flatten(plain).items()}
        else:
            flat[key] = plain if isinstance(plain, str) else json.dumps(plain, default=str)
    return flat


def store_uri() -> str:
    """Where MLflow keeps runs and models; an experiment in a folder of its own has them where its repository has."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        repository = Path.cwd().as_posix().partition(_OWN_FOLDERS)[0]
        return f"{_SQLITE}{repository}/{_DEFAULT_STORE}"
    if not uri.startswith(_SQLITE):
        return uri
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).absolute())


def _artifacts() -> str | None:
    """Where they go: beside the database, whatever folder a stage runs in. A server knows for itself."""
    uri = store_uri()
    return str(Path(uri.removeprefix(_SQLITE)).parent / "mlruns") if uri.startswith(_SQLITE) else None


def connect() -> "MlflowClient":
    """A client of MLflow's store, which is made if it is not there."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    uri = store_uri()
    with _one_at_a_time(uri):
        return MlflowClient(tracking_uri=uri)


def _open(name: str, params: Mapping[str, Any]) -> _Store:
    client = connect()
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    with _one_at_a_time(store_uri()):
        experiment = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = (
            experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, _artifacts())
        )
        journal.deliver(client, experiment_id)
        parent_id = _parent_run(client, experiment_id)
    tags = _origin() | ({MLFLOW_PARENT_RUN_ID: parent_id} if parent_id else {})
    run_id = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
    _log_params(client, run_id, flatten(params))
    if parent_id:
        # MLflow takes no second value; a stage that was begun before has told its own.
        known = client.get_run(parent_id).data.params
        ours = {f"{_within_parent(name)}/{key}": text for key, text in flatten(params).items()}
        _log_params(client, parent_id, {key: text for key, text in ours.items() if key not in known})
    return _Store(client, run_id, parent_id)


def _log_params(client: "MlflowClient", run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    settings = [Param(key, text) for key, text in params.items()]
    for start in range(0, len(settings), _PARAMS_PER_REQUEST):
        client.log_batch(run_id, params=settings[start : start + _PARAMS_PER_REQUEST])


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Two stages that start at once must not both make the database, or both make the parent run."""
    from filelock import FileLock

    database = Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None
    lock = database.with_name(f"{database.name}.lock") if database else WORK_ROOT / "tracking" / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, timeout=_LOCK_TIMEOUT_S):
        if database:
            _check_writable(database)
        yield


def _check_writable(database: Path) -> None:
    """Fail in seconds where the file is locked, damaged or forbidden; MLflow would try for minutes."""
    with closing(sqlite3.connect(database, timeout=_BUSY_TIMEOUT_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")


def _parent_run(client: "MlflowClient", experiment_id: str) -> str | None:
    """The id of the pipeline run that this stage belongs to, made if this is its first stage."""
    pipeline = os.environ.get(PARENT_VARIABLE) or _ancestor_dvc()
    if pipeline is None:
        return None
    found = client.search_runs([experiment_id], f"tags.`{PIPELINE_TAG}` = '{pipeline}'", max_results=1)
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return found[0].info.run_id
    name = os.environ.get("DVC_EXP_NAME") or "pipeline"
    return client.create_run(
        experiment_id, run_name=name, tags={PIPELINE_TAG: pipeline} | _origin()
    ).info.run_id


def _ancestor_dvc() -> str | None:
    """Host, process id and start of the `dvc` above this process: one for all stages of a `dvc repro`."""
    import psutil

    for process in psutil.Process().parents():
        # `dvc ...`, `python /path/dvc ...` and `python -m dvc ...`
        if "dvc" in [Path(word).name for word in process.cmdline()[:3]]:
            return f"{socket.gethostname()}:{process.pid}:{process.create_time():.0f}"
    return None


def _origin() -> dict[str, str]:
    """Tags that say which code, which DVC stage and which data a run comes from, and what it ran on."""
    tags = {
        "mlflow.source.git.commit": git("rev-parse", "HEAD"),
        "git.changed_files": git("status", "--porcelain", "--untracked-files=no"),
        "dvc.stage": os.environ.get("DVC_STAGE"),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME"),
        "dvc.lock_sha256": hashlib.sha256(_LOCK.read_bytes()).hexdigest() if _LOCK.is_file() else None,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in _VERSIONS},
    }
    return {key: value for key, value in tags.items() if value}
