"""Variants of the settings, each a DVC experiment, and a table of what came of them.

python -m flows.ablation             every variant of flows/ablation.yaml
python -m flows.ablation sift tsit   some of them

The workspace stays as it is: DVC runs an experiment in a folder of its own. `dvc exp show` and MLflow have it by its name.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from azeros.errors import AzerosError, ParamsError
from azeros.evaluation.asks import Figure
from azeros.evaluation.report import Results, figure_table
from azeros.overrides import check_override
from azeros.params import read_yaml
from azeros.tracking import store_uri
from azeros.work import WORK_ROOT, write_text
from flows.checkout import PARAMS, own_checkout
from flows.pipeline import some_server
from flows.stages import run_dvc

VARIANTS = Path("flows/ablation.yaml")
REPORT = Path("reports/ablation.md")
_FIGURES = "reports/evaluate/metrics.json"
_ENCODED = WORK_ROOT / "encoded"  # of frozen encoders: good for every variant

Settings = Mapping[str, Any]


@flow(name="ablation")
def ablation(names: Sequence[str] = ()) -> None:
    """Train and evaluate variants, and write reports/ablation.md.

    Args:
        names: of variants; none: all.
    """
    variants = read_variants(names)
    with own_checkout():  # DVC copies it for each variant
        for name, settings in variants.items():
            run_variant.with_options(task_run_name=name)(name, settings)
    report = to_report({name: read_figures(name) for name in variants})
    write_text(REPORT, report)
    create_markdown_artifact(report, key="ablation")


def read_variants(names: Sequence[str] = ()) -> dict[str, Settings]:
    """Settings of the variants that are wanted, all checked before the first is run.

    Raises ParamsError: there is no such variant, or its settings are wrong.
    """
    document: dict[str, Settings] = read_yaml(VARIANTS)
    for name in names:
        if name not in document:
            raise ParamsError(f"{VARIANTS}: no variant '{name}'; there are: {', '.join(document)}")
    variants = {name: document[name] for name in names or document}
    for name, settings in variants.items():
        try:
            check_override(PARAMS, settings)
        except ParamsError as error:
            raise ParamsError(f"{VARIANTS}: {name}: {error}") from error
    return variants


@task
def run_variant(name: str, settings: Settings) -> None:
    """Have DVC run the pipeline up to `evaluate` with other settings; stages that it has seen with them are not run again.

    Raises StageError if a stage fails.
    """
    _forget(_experiment(name))
    command = ["exp", "run", "--temp", "--name", _experiment(name)]
    if _ENCODED.is_dir():
        command += ["--copy-paths", str(_ENCODED)]
    for key, value in settings.items():
        # Removed first: Hydra would merge what it holds with the new.
        command += ["--set-param", f"~{key}"] if _holds(key) else []
        command += ["--set-param", f"++{key}={to_hydra(value)}"]
    run_dvc(
        f"variant {name}",
        [*command, "evaluate"],
        {"MLFLOW_TRACKING_URI": store_uri()},
        f"python -m flows.ablation {name}",
    )


def _experiment(variant: str) -> str:
    return f"ablation-{variant}"


def _forget(experiment: str) -> None:
    from dvc.repo import Repo
    from dvc.repo.experiments.exceptions import UnresolvedExpNamesError

    with Repo() as repo, suppress(UnresolvedExpNamesError):
        repo.experiments.remove([experiment])


def _holds(key: str) -> bool:
    section = read_yaml(PARAMS)
    for part in key.split("."):
        if not isinstance(section, dict) or part not in section:
            return False
        section = section[part]
    return True


def to_hydra(value: object) -> str:
    """A setting as `dvc exp run --set-param` reads it."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{to_hydra(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(to_hydra, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def read_figures(variant: str) -> Results:
    """System -> kind -> figure, by the experiment of a variant."""
    import dvc.api

    systems = json.loads(dvc.api.read(_FIGURES, rev=_experiment(variant)))
    return {
        system: {kind: Figure(**figure) for kind, figure in figures.items()}
        for system, figures in systems.items()
    }


def to_report(by_variant: Mapping[str, Results]) -> str:
    """A table for each training stage, with a column for each variant, in Markdown."""
    lines = [
        "# Ablations",
        "",
        f"Variants of {VARIANTS} on held-out speech, in %, 95 % intervals in brackets.",
    ]
    for stage in ("stage1", "stage2"):
        of_stage = {variant: results[stage] for variant, results in by_variant.items()}
        lines += ["", f"## After {stage}", "", *figure_table(of_stage)]
    return "\n".join(lines) + "\n"


def main(names: Sequence[str]) -> None:
    """Run the variants of these names, or all."""
    read_variants(names)  # what is wrong with them is said at once
    with some_server():
        ablation(names)
    sys.stdout.write(REPORT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AzerosError as error:
        sys.exit(f"flows.ablation: {error}")
