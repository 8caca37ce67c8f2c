"""The modality gap as a table, a section of the report and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from azeros.evaluation.asks import Figure
from azeros.evaluation.gap import Slice

Gaps = Mapping[str, Sequence[Slice]]
_FIGURES = {
    "agreement": "share of the tokens where the likeliest is the same (%)",
    "divergence": "divergence of the next token (nats)",
}


def write_gaps(folder: Path, gaps: Gaps) -> None:
    """Write gap.csv and gap.svg to `folder`."""
    header = "system,by,value,utterances,tokens," + ",".join(
        f"{name},{name}_low,{name}_high" for name in _FIGURES
    )
    rows = [
        f"{system},{part.by},{part.value.strip()},{part.num_utterances},{part.agreement.count},"
        + ",".join(f"{value:.5f}" for name in _FIGURES for value in _numbers(getattr(part, name)))
        for system, parts in gaps.items()
        for part in parts
    ]
    (folder / "gap.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    _plot(folder / "gap.svg", gaps)


def _numbers(figure: Figure) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high


def section(gaps: Gaps) -> list[str]:
    """Lines of Markdown."""
    systems = list(gaps)
    lines = [
        "## Modality gap", "",
        "Each model reads the language model's own answer to the transcript, token by token: in % how often its likeliest next token is that from the",
        "transcript, then the divergence KL(transcript || speech) in nats a token, 95 % intervals in brackets.", "", "![modality gap](gap.svg)", "",
        f"| | | {' | '.join(systems)} | utterances | tokens |", f"|---|---|{'---:|' * (len(systems) + 2)}",
    ]  # fmt: skip
    for row in zip(*gaps.values(), strict=True):
        cells = [
            f"{100 * part.agreement.value:.1f} [{100 * part.agreement.low:.1f}, {100 * part.agreement.high:.1f}], "
            f"{part.divergence.value:.2f} [{part.divergence.low:.2f}, {part.divergence.high:.2f}]"
            for part in row
        ]
        first = row[0]
        counts = f"{first.num_utterances} | {first.agreement.count}"
        lines.append(f"| {first.by} | {first.value.strip()} | {' | '.join(cells)} | {counts} |")
    return [*lines, ""]


def _plot(path: Path, gaps: Gaps) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "azeros"  # the same figures give the same bytes
    from matplotlib import pyplot

    parts = next(iter(gaps.values()))
    plot, panels = pyplot.subplots(
        1, 2, sharey=True, figsize=(10, 0.3 * len(parts) + 1.4), layout="constrained"
    )
    for axes, (name, title) in zip(panels, _FIGURES.items(), strict=True):
        scale = 100 if name == "agreement" else 1
        for index, (system, own) in enumerate(gaps.items()):
            figures = [getattr(part, name) for part in own]
            values = [scale * figure.value for figure in figures]
            spread = [
                [scale * (figure.value - figure.low) for figure in figures],
                [scale * (figure.high - figure.value) for figure in figures],
            ]
            places = [row + 0.2 * (index - (len(gaps) - 1) / 2) for row in range(len(parts))]
            axes.errorbar(values, places, xerr=spread, fmt="o", ms=3, lw=0.8, label=system)
        axes.set(xlabel=title)
        axes.grid(axis="x", lw=0.3)
    panels[1].set_xscale("log")  # an untrained model is tens of times as far away
    panels[0].set_yticks(range(len(parts)), [_label(part) for part in parts])
    panels[0].invert_yaxis()
    plot.legend(
        *panels[0].get_legend_handles_labels(), ncols=len(gaps), loc="outside upper center", frameon=False
    )
    plot.savefig(path, metadata={"Date": None})
    pyplot.close(plot)


def _label(part: Slice) -> str:
    return "all" if part.by == "all" else f"{part.by}: {part.value.strip()}"
