"""What MLflow could not be told: kept in a file a process under .work/tracking/, and delivered once a store answers."""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.errors import one_line
from azeros.work import WORK_ROOT, is_running

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

Record = Mapping[str, Any]
"""`run` names the stage, `run_id` its run in the store, if it had one; and `params`, a point of a curve, or `status`."""

_METRICS_PER_REQUEST = 1000  # MLflow takes no more
_PARAMS_PER_REQUEST = 100
# What MLflow says of a run that it does not know, that was deleted or has another value already: it will not take it later.
_REFUSALS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")


def own_file() -> Path:
    """Where this process keeps its records."""
    return WORK_ROOT / "tracking" / f"{os.getpid()}.jsonl"


def keep(records: Sequence[Record]) -> None:
    """Add records to this process's file."""
    path = own_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(map(_line, records))


def deliver(client: MlflowClient, experiment_id: str) -> None:
    """Send what processes that have ended kept, each run to where it was lost or as one of its own, and drop the files.

    What nobody can read or the store does not take, as of a run that it does not know, is set aside as `*.bad`.
    """
    from mlflow.exceptions import MlflowException

    for path in sorted(own_file().parent.glob("*.jsonl")):
        if path != own_file() and is_running(int(path.stem)):
            continue
        try:
            runs = _runs_in(path)
        except (ValueError, KeyError, TypeError) as error:
            _set_aside(path, path.read_bytes(), error)
            path.unlink()
            continue
        for (name, run_id), records in runs.items():
            try:
                _send(client, experiment_id, name, run_id, records)
            except MlflowException as error:
                if error.error_code not in _REFUSALS:  # the store fails, and may take it later
                    raise
                _set_aside(path, "".join(map(_line, records)).encode(), error)
        path.unlink()
        logger.info("MLflow was told of %d runs kept in %s", len(runs), path)


def _set_aside(path: Path, content: bytes, error: Exception) -> None:
    aside = path.with_suffix(".bad")
    with aside.open("ab") as stream:
        stream.write(content)
    logger.warning("%s: not delivered to MLflow (%s); it is kept in %s", path, one_line(error), aside)


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _runs_in(path: Path) -> dict[tuple[str, str | None], list[Record]]:
    found: dict[tuple[str, str | None], list[Record]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").split("\n")[
        :-1
    ]:  # behind the last newline is what a kill cut off
        record = json.loads(line)
        found[record["run"], record.get("run_id")].append(record)
    return dict(found)


def _send(
    client: MlflowClient, experiment_id: str, name: str, run_id: str | None, records: Sequence[Record]
) -> None:
    from mlflow.entities import Metric, Param

    points = [record for record in records if "key" in record]
    metrics = [Metric(p["key"], p["value"], p["timestamp"], p["step"]) for p in points]
    params = [Param(key, text) for record in records for key, text in record.get("params", {}).items()]
    if run_id is None:
        began = min((point["timestamp"] for point in points), default=None)
        run_id = client.create_run(experiment_id, start_time=began, run_name=name).info.run_id
    for start in range(0, len(params), _PARAMS_PER_REQUEST):
        client.log_batch(run_id, params=params[start : start + _PARAMS_PER_REQUEST])
    for start in range(0, len(metrics), _METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_REQUEST])
    # A run without a last word was killed.
    status = next((record["status"] for record in records if "status" in record), "KILLED")
    end = max((point["timestamp"] for point in points), default=None)
    client.set_terminated(run_id, status, end)
