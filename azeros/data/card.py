"""The data card: every prepared corpus side by side, what each training stage draws from them, terms and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from azeros.data.catalog import read_catalog
from azeros.data.licenses import to_table, verdict
from azeros.data.report import DURATIONS, table
from azeros.errors import ManifestError
from azeros.params import Params
from azeros.work import write_json

_FIGURES = {"rows_out", "rejected", "hours", "by", "utterances_by_duration"}
_BALANCED = ("gender", "age_group", "emotion")
_ROW_HEIGHT_IN = 0.45


def write_card(params: Params, manifests: Path, output: Path) -> None:
    """Write a page in Markdown to `output`, and beside it its plots and, as JSON, the corpora's reports by name.

    Args:
        params: the corpora and the mixes of them.
        manifests: folder with one folder a corpus, as prepare made it.
        output: the page, such as reports/data.md.

    Raises:
        ManifestError: a corpus of the settings is not prepared.
    """
    reports = {name: _read(manifests / name / "report.json") for name in params.corpora}
    output.parent.mkdir(parents=True, exist_ok=True)
    durations, labels = (output.with_name(f"{output.stem}-{what}.png") for what in ("durations", "labels"))
    _plot_durations(reports, durations)
    _plot_labels(reports, labels)
    recipes = recipes_of_mix(params)
    catalog = read_catalog()
    sections = [
        "# Data\n",
        _corpora_table(reports),
        *(
            f"## What {stage} draws from\n\n{_mix_table(params, stage, reports)}"
            for stage in ("stage1", "stage2")
        ),
        f"## Terms\n\n{to_table([catalog.corpora[recipe] for recipe in recipes])}",
        f"Weights trained on this mix: {verdict(recipes)}\n",
        f"## Balance\n\n![Durations]({durations.name})\n\n![Labels]({labels.name})\n",
    ]
    output.write_text("\n".join(sections), encoding="utf-8")
    write_json(output.with_suffix(".json"), reports)


def recipes_of_mix(params: Params) -> list[str]:
    """The recipes of the corpora that the training stages draw from, each once."""
    stages = (params.train.stage1, params.train.stage2)
    sets = [params.sift.sets[name] for stage in stages for name in stage.sets]
    return list(dict.fromkeys(params.corpora[targets.corpus].recipe for targets in sets))


def _read(path: Path) -> dict[str, Any]:
    again = f"not a report that prepare wrote; run dvc repro -f prepare@{path.parent.name}"
    if not path.is_file():
        raise ManifestError(f"{path}: no such report; run dvc repro prepare@{path.parent.name} first")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{path}: {again} ({error})") from error
    if not isinstance(report, dict) or not report.keys() >= _FIGURES:
        raise ManifestError(f"{path}: {again} (not all of {', '.join(sorted(_FIGURES))} in it)")
    return report


def _corpora_table(reports: Mapping[str, dict[str, Any]]) -> str:
    rows = []
    for name, report in reports.items():
        paper = sum(report.get("paper_hours", {}).values())
        rejected = sum(report["rejected"].values())
        rows.append(
            [name, report["rows_out"], f"{report['hours']:.2f}", f"{paper:g}" if paper else "", rejected]
        )
    return table(["corpus", "utterances", "hours", "hours in the paper", "rejected"], rows)


def _mix_table(params: Params, stage: str, reports: Mapping[str, dict[str, Any]]) -> str:
    """Hours as measured, not as anybody wrote them down."""
    weights = getattr(params.train, stage).sets
    rows = []
    for name, weight in weights.items():
        wanted = params.sift.sets[name]
        of_split = reports[wanted.corpus]["by"]["split"].get(wanted.split, {"hours": 0.0})
        share = weight / sum(weights.values())
        rows.append(
            [
                name,
                wanted.corpus,
                wanted.mode,
                f"{of_split['hours']:.2f}",
                f"{weight:g}",
                f"{100 * share:.1f} %",
            ]
        )
    return table(["set", "corpus", "mode", "hours", "weight", "share of what is drawn"], rows)


def _plot_durations(reports: Mapping[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, report in reports.items():
        counts = report["utterances_by_duration"]
        shares = [100 * counts[label] / max(report["rows_out"], 1) for label in DURATIONS]
        axes.plot(DURATIONS, shares, marker="o", label=name)
    axes.set_xlabel("duration in seconds")
    axes.set_ylabel("utterances in %")
    axes.tick_params("x", rotation=30)
    axes.legend()
    figure.savefig(path, metadata={"Software": None})


def _plot_labels(reports: Mapping[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    height = 1.5 + _ROW_HEIGHT_IN * len(reports)
    figure = Figure(figsize=(7, height * len(_BALANCED)), layout="constrained")
    for axes, key in zip(figure.subplots(len(_BALANCED)), _BALANCED, strict=True):
        labels = list(dict.fromkeys(label for report in reports.values() for label in report["by"][key]))
        left = [0.0] * len(reports)
        for label in labels:
            hours = [report["by"][key].get(label, {"hours": 0.0})["hours"] for report in reports.values()]
            shares = [
                100 * h / (report["hours"] or 1) for h, report in zip(hours, reports.values(), strict=True)
            ]
            axes.barh(list(reports), shares, left=left, label=label)
            left = [a + b for a, b in zip(left, shares, strict=True)]
        axes.set_xlabel(f"{key.replace('_', ' ')} in % of the hours")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, metadata={"Software": None})
