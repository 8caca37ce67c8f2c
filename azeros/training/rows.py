"""Training rows, and the endless, repeatable order in which they come."""

from __future__ import annotations

import json
import random
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from azeros.data.manifests import cut_text, read_cuts, unfit
from azeros.errors import ManifestError
from azeros.params import Filter

if TYPE_CHECKING:
    from lhotse.cut import Cut

# Batches are cut out of this many at once, sorted by length, so that little of a batch is padding.
_POOL_BATCHES = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance with the answer that is to be learned; small, as millions are held at once."""

    key: str
    """The id of its cut, under which its audio is stored."""
    duration_s: float
    instruction: str
    response: str
    packed: bytes
    """Where its sound is: its cut, without what is said in it, as compressed JSON."""
    tagged: bool = False
    """Whether the one slot of stage 1 stands in the tags of stage 2 all the same."""

    @classmethod
    def of(cls, cut: Cut, instruction: str, response: str) -> Row:
        """The row of a cut."""
        sound = json.dumps(cut.drop_supervisions().to_dict(), ensure_ascii=False).encode()
        return cls(cut.id, cut.duration, sys.intern(instruction), response, zlib.compress(sound, level=1))

    @property
    def cut(self) -> Cut:
        """Its sound."""
        from lhotse.serialization import deserialize_item

        cut: Cut = deserialize_item(json.loads(zlib.decompress(self.packed)))
        return cut


def read_rows(
    targets: Path, settings: Filter, author: Mapping[str, str] | None = None
) -> tuple[list[Row], dict[str, int]]:
    """Rows of one set of targets, and how many were left out for which reason.

    Args:
        targets: folder of the set.
        settings: what may become a row.
        author: what the provenance of a target, where it has one, must hold: the language model that is trained against
            learns nothing from the answers of another.

    Raises:
        ManifestError: a cut has no target or one by another author, or none is left.
    """
    rows: list[Row] = []
    rejects: dict[str, int] = {}
    for cut in read_cuts(targets / "cuts.jsonl.gz"):
        reason = unfit(cut.duration, cut_text(cut), settings)
        if reason:
            rejects[reason] = rejects.get(reason, 0) + 1
            continue
        custom = cut.supervisions[0].custom or {}
        if "response" not in custom:
            raise ManifestError(
                f"{targets}/cuts.jsonl.gz: cut {cut.id} has no response: make the targets with `azeros sift`"
            )
        provenance = custom.get("provenance") or {}
        if author and provenance and any(provenance.get(name) != value for name, value in author.items()):
            raise ManifestError(
                f"{targets}/cuts.jsonl.gz: cut {cut.id}: {custom.get('from_model')} wrote its target, in another revision or "
                f"with other prompts than foundation.llm and sift now have: run `dvc repro sift@{targets.name}`, or allow "
                "it by train.foreign_targets"
            )
        rows.append(Row.of(cut, custom.get("instruction") or "", custom["response"]))
    if not rows:
        raise ManifestError(
            f"{targets}: no row is left to train on ({rejects}): widen `filter` in params.yaml"
        )
    return rows, rejects


def with_tagged(
    sets: Mapping[str, list[Row]], weights: Mapping[str, float], share: float
) -> tuple[dict[str, list[Row]], dict[str, float]]:
    """Sets and weights in which each set comes twice: bare, and `share` of the time in the tags.

    Stage 2 keeps the semantic projector as it is and puts its audio into tags, where a small language model
    understands less of what was only ever heard bare.
    """
    bare = {name: (1 - share) * weight for name, weight in weights.items()}
    tagged = {f"{name} in tags": [replace(row, tagged=True) for row in rows] for name, rows in sets.items()}
    return {**sets, **tagged}, bare | {f"{name} in tags": share * weight for name, weight in weights.items()}


def batches(
    sets: Mapping[str, list[Row]],
    weights: Mapping[str, float],
    batch_size: int,
    seed: int,
    lengths: Callable[[list[Row]], Iterable[int]],
) -> Iterator[list[Row]]:
    """Endless batches that mix the sets by hours times weight; the n-th is a function of the arguments alone, so a resumed run skips to it.

    Args:
        sets: rows by the name of their set.
        weights: of the sets, by their names.
        batch_size: rows of a batch.
        seed: of the order.
        lengths: how much room each of some rows takes in a batch; rows of like length come together.
    """
    rng = random.Random(seed)
    names = sorted(sets)
    hours = [sum(row.duration_s for row in sets[name]) / 3600 for name in names]
    shares = [h * weights[name] for name, h in zip(names, hours, strict=True)]
    measured = {name: array("I", lengths(sets[name])) for name in names}
    streams = {name: _shuffled(len(sets[name]), random.Random(f"{seed}-{name}")) for name in names}
    while True:
        drawn = [
            (name, next(streams[name])) for name in rng.choices(names, shares, k=batch_size * _POOL_BATCHES)
        ]
        drawn.sort(key=lambda place: measured[place[0]][place[1]])
        chunks = [drawn[i : i + batch_size] for i in range(0, len(drawn), batch_size)]
        rng.shuffle(chunks)
        for chunk in chunks:
            yield [sets[name][index] for name, index in chunk]


def _shuffled(num: int, rng: random.Random) -> Iterator[int]:
    """All numbers below `num` in random order, again and again."""
    while True:
        yield from rng.sample(range(num), num)
