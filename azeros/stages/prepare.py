"""Stage `prepare`: one corpus, from its own layout to checked lhotse manifests."""

from __future__ import annotations

import logging
from pathlib import Path

from azeros.data.corpus import prepare_corpus
from azeros.errors import StageError
from azeros.params import Params
from azeros.tracking import stage_run

logger = logging.getLogger(__name__)


def run(params: Params, corpus: str, output: Path) -> None:
    """Make the manifests of `corpus`, a name in params.corpora, in the folder `output`.

    Raises:
        StageError: no such corpus in params.
        CorpusError: the corpus is missing or badly laid out, or too large a share of its rows is unusable.
    """
    if corpus not in params.corpora:
        raise StageError(f"params.yaml: no '{corpus}' in corpora; there are: {', '.join(params.corpora)}")
    entry = params.corpora[corpus]
    settings = {"corpus": entry, "seed": params.seed, "prepare": params.prepare}
    with stage_run(f"prepare@{corpus}", settings) as tracked:
        report = prepare_corpus(corpus, entry, params.seed, output, params.prepare.max_rejected_share)
        tracked.set_summary({"rows_in": report.rows_in, "rows_out": report.rows_out, "hours": report.hours})
        tracked.log_artifact(output / "report.json")
        tracked.log_artifact(output / "report.md")
    logger.info("%s: %s", output, report.summary())
