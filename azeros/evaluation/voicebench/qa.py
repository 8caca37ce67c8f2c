"""SD-QA: the mean of two shares of right answers, PANDA's and a judge's majority vote."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from azeros.evaluation.responses import Response
from azeros.evaluation.tally import Item, Ratio, failed, share
from azeros.evaluation.voicebench.panda import Panda


def leaders(judgements: Sequence[str]) -> list[str]:
    """The most frequent of the lower-cased judgements, sorted; more than one where they tie."""
    counts = Counter(judgement.lower() for judgement in judgements)
    most = max(counts.values(), default=0)
    return sorted(judgement for judgement, count in counts.items() if count == most)


def score(rows: Sequence[Response], seed: int, panda: Panda | None, judged: bool) -> list[Item]:
    """Parts: PANDA if there are weights, the vote if the rows are `judged`.

    Which of several leaders wins officially depends on the hash seed of the process; here it is drawn.
    """
    rng = random.Random(seed)
    return [_item(row, rng, panda, judged) for row in rows]


def _item(row: Response, rng: random.Random, panda: Panda | None, judged: bool) -> Item:
    fields: dict[str, object] = {}
    by_panda: tuple[Ratio, ...] = ()
    if panda is not None:
        texts = (row.text(name).lower() for name in ("reference", "response", "prompt"))
        right, margin = panda.judge(*texts)
        fields |= {"panda": right, "margin": margin}
        by_panda = (share(right),)
    if not judged:
        return Item(fields, by_panda, by_panda)
    best = leaders(row.texts("score"))
    if not best:
        return failed("ValueError", (*by_panda, share(False)))
    tie = len(best) > 1
    vote = "yes" in best
    fields |= {"gpt": None if tie else vote, "tie": tie}
    return Item(
        fields,
        strict=(*by_panda, share(vote and not tie)),
        official=(*by_panda, share(rng.choice(best) == "yes")),
        expected=(*by_panda, (vote / len(best), 1.0)),
        fallbacks=int(tie),
    )
