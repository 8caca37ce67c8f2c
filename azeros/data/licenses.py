"""What the corpora of a mix, and so the weights trained on it, may be used for."""

from __future__ import annotations

from collections.abc import Iterable

from azeros.data.catalog import Terms, read_catalog
from azeros.errors import CorpusError


def verdict(recipes: Iterable[str]) -> str:
    """One sentence on what weights trained on these corpora may be used for."""
    catalog = read_catalog()
    corpora = [catalog.corpora[recipe] for recipe in recipes]
    if forbidding := [corpus.title for corpus in corpora if corpus.commercial == "no"]:
        return f"Not for commercial use: {', '.join(forbidding)}."
    if unclear := [corpus.title for corpus in corpora if corpus.commercial == "unclear"]:
        return f"Commercial use is not settled: read the terms of {', '.join(unclear)}."
    return "Commercial use is allowed, under the terms of each corpus."


def require_commercial(recipe: str) -> None:
    """Refuse a corpus that weights to be sold may not be trained on.

    Raises:
        CorpusError: its terms forbid it, or do not say.
    """
    if read_catalog().corpora[recipe].commercial != "yes":
        raise CorpusError(
            f"commercial is true in params.yaml. {verdict([recipe])} Take its sets out of sift.sets and train.*.sets, or set it to false"
        )


def to_table(entries: Iterable[Terms]) -> str:
    """A table in Markdown, one row an entry."""
    lines = ["| corpus | licence | commercial use | terms | source |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {t.title} | {t.license} | {t.commercial} | {t.terms} | {t.source} |" for t in entries]
    return "\n".join(lines) + "\n"
