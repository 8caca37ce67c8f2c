"""Published figures of both benchmarks, and the totals that the tables make of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from ruamel.yaml import YAML

from azeros.evaluation.airbench import foundation

_FILE = Path(__file__).with_name("published.yaml")
# Column -> what its figure is multiplied by in the total; the judged ones go from 1 to 5.
VOICEBENCH_FACTORS = {
    **dict.fromkeys(("alpacaeval", "commoneval", "wildvoice"), 20),
    **dict.fromkeys(("sdqa", "bbh", "advbench", "ifeval", "obqa", "mmsu"), 1),
}
AIRBENCH_FACTORS = dict.fromkeys(foundation.COLUMNS, 1)

Columns = Mapping[str, float | None]


@dataclass(frozen=True)
class PublishedRow:
    """One system's figures as printed; None where none is given."""

    benchmark: str
    source: str
    system: str
    columns: Columns


def load_published() -> list[PublishedRow]:
    """Every row of published.yaml, in its order."""
    document = YAML(typ="safe", pure=True).load(_FILE.read_text(encoding="utf-8"))
    return [
        PublishedRow(benchmark, source, system, dict(zip(table["columns"], figures, strict=True)))
        for benchmark, table in document.items()
        for source, rows in table.items()
        if source != "columns"
        for system, figures in rows.items()
    ]


def voicebench_overall(columns: Columns) -> float | None:
    """The mean of the nine columns, the judged ones times 20; None if one is absent.

    Rounded half-up to two digits: so the tables come out of their own columns.
    """
    return _mean(columns, VOICEBENCH_FACTORS)


def airbench_average(columns: Columns) -> float | None:
    """The mean of the six columns of Foundation, rounded as `voicebench_overall` is; None if one is absent."""
    return _mean(columns, AIRBENCH_FACTORS)


def _mean(columns: Columns, factors: Mapping[str, int]) -> float | None:
    given = [
        Decimal(str(figure)) * factor
        for name, factor in factors.items()
        if (figure := columns.get(name)) is not None
    ]
    if len(given) < len(factors):
        return None
    return float((sum(given, Decimal(0)) / len(given)).quantize(Decimal("0.01"), ROUND_HALF_UP))
