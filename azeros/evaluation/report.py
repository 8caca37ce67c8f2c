"""The readable report: figures of every system side by side, the modality gap, plots, and what the systems really said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from azeros.evaluation.asks import Ask, Figure
from azeros.evaluation.gap_report import Gaps, section, write_gaps

Results = Mapping[str, Mapping[str, Figure]]
_TITLES = {
    "plain": "answered exactly as the transcript",
    "repeat": "repeated without an error",
    "repeat_wer": "word error rate of repeating (lower is better)",
    "topic": "topic", "who": "who it is about", "choice_word": "which of four words was said",
    "choice": "the word and its letter (a, b, c or d)",
    "gender": "gender of the speaker", "age": "age of the speaker", "emotion": "emotion of the speaker",
    "gap_agreement": "likeliest next token as from the transcript",
}  # fmt: skip
_NATS = "gap_divergence"  # no share: it stands in the section on the gap


def write_report(
    folder: Path,
    results: Results,
    gaps: Gaps,
    asks: Sequence[Ask],
    answers: Mapping[str, Mapping[Ask, str]],
) -> None:
    """Write report.md, metrics.json, abilities.csv, abilities.svg, gap.csv, gap.svg and answers.jsonl to `folder`."""
    metrics = {
        system: {kind: figure.to_dict() for kind, figure in figures.items()}
        for system, figures in results.items()
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    rows = [
        f"{system},{kind},{figure.value:.5f},{figure.low:.5f},{figure.high:.5f}"
        for system, figures in results.items()
        for kind, figure in figures.items()
        if kind != _NATS
    ]
    (folder / "abilities.csv").write_text("\n".join(["system,ability,value,low,high", *rows]) + "\n")
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as file:
        for ask in asks:
            said = {system: given[ask] for system, given in answers.items()}
            file.write(
                json.dumps(
                    {
                        "cut": ask.cut_id,
                        "kind": ask.kind,
                        "instruction": ask.instruction,
                        "input": ask.text,
                        "right": ask.right,
                        **said,
                    },
                    ensure_ascii=False,
                )
                + "\n"
            )
    _plot(folder / "abilities.svg", results)
    write_gaps(folder, gaps)
    (folder / "report.md").write_text(_markdown(results, gaps, asks, answers), encoding="utf-8")


def summary(results: Results) -> list[str]:
    """The figures as aligned lines for a terminal, in %."""
    systems = list(results)
    lines = [f"{'%':<48}" + "".join(f"{system:>11}" for system in systems)]
    for kind in _kinds(results):
        found = (results[system].get(kind) for system in systems)
        cells = (f"{100 * figure.value:.1f}" if figure else "" for figure in found)
        lines.append(f"{_TITLES.get(kind, kind):<48}" + "".join(f"{cell:>11}" for cell in cells))
    return lines


def figure_table(results: Results) -> list[str]:
    """The figures as lines of a Markdown table in %, intervals in brackets, a column a system."""
    lines = [f"| | {' | '.join(results)} | n |", f"|---|{'---:|' * (len(results) + 1)}"]
    for kind in _kinds(results):
        cells = [_cell(figures.get(kind)) for figures in results.values()]
        count = max(figures[kind].count for figures in results.values() if kind in figures)
        lines.append(f"| {_TITLES.get(kind, kind)} | {' | '.join(cells)} | {count} |")
    return lines


def _kinds(results: Results) -> list[str]:
    """Whatever is a share of some system, in order."""
    kinds = dict.fromkeys(kind for figures in results.values() for kind in figures)
    return [kind for kind in kinds if kind != _NATS]


def _markdown(
    results: Results, gaps: Gaps, asks: Sequence[Ask], answers: Mapping[str, Mapping[Ask, str]]
) -> str:
    lines = ["# Held-out speech", "", "Shares in %, 95 % interval in brackets. `text` is the language model itself, given the transcript",
             "(and, for questions about the speaker,",
             "the true attributes): the ceiling. The others hear.", "", "![abilities](abilities.svg)", ""]  # fmt: skip
    lines += [*figure_table(results), "", *section(gaps), "## What they said", ""]
    for kind in dict.fromkeys(ask.kind for ask in asks):
        ask = next(ask for ask in asks if ask.kind == kind)
        lines += [f"**{kind}**: {ask.text} {ask.instruction}".rstrip(), ""]
        lines += [f"- {system}: {given[ask]}" for system, given in answers.items()] + [""]
    return "\n".join(lines)


def _cell(figure: Figure | None) -> str:
    return (
        ""
        if figure is None
        else f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
    )


def _plot(path: Path, results: Results) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "azeros"  # the same figures give the same bytes
    from matplotlib import pyplot

    kinds = [
        kind
        for kind in _TITLES
        if kind != "repeat_wer" and any(kind in figures for figures in results.values())
    ]
    figure, axes = pyplot.subplots(figsize=(9, 0.55 * len(kinds) + 1.2), layout="constrained")
    height = 0.8 / len(results)
    for index, (system, figures) in enumerate(results.items()):
        shown = [(row, figures[kind]) for row, kind in enumerate(kinds) if kind in figures]
        places = [row + (index - (len(results) - 1) / 2) * height for row, _ in shown]
        values = [100 * f.value for _, f in shown]
        spread = [[100 * (f.value - f.low) for _, f in shown], [100 * (f.high - f.value) for _, f in shown]]
        axes.barh(places, values, height, label=system, xerr=spread, error_kw={"lw": 0.8})
    axes.set_yticks(range(len(kinds)), [_TITLES[kind] for kind in kinds])
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="share of held-out utterances (%)")
    axes.legend(ncols=len(results), loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
