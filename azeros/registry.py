"""Versions of a packaged model in MLflow's registry, and which of them is the champion.

Beside `azeros.tracking`, the only module that knows MLflow.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.errors import StageError, one_line
from azeros.tracking import EXPERIMENT, MODEL_TAG, PIPELINE_TAG, connect, store_uri

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
_RECORD = "azeros.record"


@dataclass(frozen=True)
class Version:
    """A registered model."""

    number: int
    folder: Path
    record: dict[str, Any]
    """What it was made from and what was measured, as `azeros.release` wrote it."""


@contextmanager
def _within_reach() -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StageError(
            f"MLflow's registry is out of reach ({one_line(error)}): check MLFLOW_TRACKING_URI ({store_uri()})"
        ) from error


class Registry:
    """The versions of the model `name`. Whatever is asked of it is a StageError if MLflow's store is out of reach."""

    @_within_reach()
    def __init__(self, name: str) -> None:
        self.name = name
        self._client: MlflowClient = connect()
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)

    @_within_reach()
    def versions(self) -> list[Version]:
        """All versions, the oldest first."""
        found = self._client.search_model_versions(f"name = '{self.name}'")
        return sorted(map(_version, found), key=lambda version: version.number)

    @_within_reach()
    def add(self, folder: Path, record: dict[str, Any]) -> Version:
        """Register the model in `folder`."""
        tags = {_RECORD: json.dumps(record, ensure_ascii=False)}
        return _version(self._client.create_model_version(self.name, str(folder.resolve()), tags=tags))

    @_within_reach()
    def runs_of(self, model: str) -> dict[str, str]:
        """The runs that made the packaged model with the hash `model`: its stage's, its pipeline's, what started it."""
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return {}
        found = self._client.search_runs(
            [experiment.experiment_id], f"tags.`{MODEL_TAG}` = '{model}'", max_results=1
        )
        if not found:
            return {}
        parent = found[0].data.tags.get(MLFLOW_PARENT_RUN_ID)
        runs = {"MLflow run": found[0].info.run_id, "MLflow pipeline run": parent}
        started = self._client.get_run(parent).data.tags.get(PIPELINE_TAG) if parent else None
        return {name: value for name, value in (runs | {"started as": started}).items() if value}

    @_within_reach()
    def has_run(self, run_id: str) -> bool:
        """Whether the store has a run."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    @_within_reach()
    def champion(self) -> Version | None:
        """The version that is served, if any was promoted."""
        number = self._client.get_registered_model(self.name).aliases.get(CHAMPION)
        return (
            next((version for version in self.versions() if version.number == int(number)), None)
            if number
            else None
        )

    @_within_reach()
    def promote(self, version: Version) -> None:
        """Make `version` the champion."""
        self._client.set_registered_model_alias(self.name, CHAMPION, str(version.number))


def _version(found: ModelVersion) -> Version:
    return Version(int(found.version), Path(str(found.source)), json.loads(found.tags.get(_RECORD, "{}")))
