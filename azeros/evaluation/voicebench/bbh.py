"""BIG-Bench Hard, four tasks: yes or no, (a) or (b)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from azeros.evaluation.responses import Response
from azeros.evaluation.tally import Item, failed, share
from azeros.evaluation.voicebench.bbh_rules import EITHER, ENDS, EQUALS, IN, MATCHES, RULES, STARTS
from azeros.evaluation.voicebench.guesses import closed_item
from azeros.evaluation.voicebench.marks import without_first, without_last

_VERDICTS = {"yes": 1, "no": 0, "(a)": 0, "(b)": 1}
_SPACED_OUT = re.compile(r":|\*\*|\"|-|,|\.|：")
_FITS: dict[str, Callable[[str, str], bool]] = {
    IN: lambda text, rule: rule in text,
    EQUALS: lambda text, rule: text == rule,
    STARTS: lambda text, rule: text.startswith(rule),
    ENDS: lambda text, rule: text.endswith(rule),
    MATCHES: lambda text, rule: re.search(rule, text) is not None,
}


def normalise(response: str) -> str:
    """Lower-cased, without the marks of some systems, punctuation as spaces, spaces single."""
    text = without_first(without_last(response.lower()))
    return " ".join(_SPACED_OUT.sub(" ", text.replace("<|turn_end|>", "")).split())


def find_verdict(item_id: str, response: str) -> int | None:
    """1 for yes or (b), 0 for no or (a), None where the official evaluator would guess.

    Raises:
        NotImplementedError: `item_id` names none of the four tasks.
    """
    task = next((name for name in RULES if name in item_id), None)
    if task is None:
        raise NotImplementedError(item_id)
    text = normalise(response)
    for kind, rule, verdict in RULES[task]:
        if verdict is not EITHER:
            if _FITS[kind](text, rule):
                return verdict
        else:
            for letter, which in (("a", 0), ("b", 1)):
                if _FITS[kind](text, rule.replace("@", letter)):
                    return which
    return None


def score(rows: Sequence[Response], seed: int) -> list[Item]:
    """Guesses as after `random.seed(seed)`."""
    rng = random.Random(seed)
    return [_item(row, rng) for row in rows]


def _item(row: Response, rng: random.Random) -> Item:
    try:
        found = find_verdict(row.text("id"), row.text("response"))
        right = _VERDICTS[row.text("reference").lower()]
    except (NotImplementedError, KeyError) as error:
        return failed(type(error).__name__, (share(False),))
    return closed_item(found, right, (0, 1), rng)
