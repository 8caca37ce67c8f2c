"""Training rows, and the endless, repeatable order in which they come."""

from __future__ import annotations

import json
import math
import os
import random
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pyarrow
from pyarrow import compute

from azeros.data.manifests import cut_text, read_cuts, unfit
from azeros.errors import ManifestError
from azeros.params import Filter
from azeros.work import hash_files, work_dir, write_json

if TYPE_CHECKING:
    from lhotse.cut import Cut

# Batches are cut out of this many at once, sorted by length, so that little of a batch is padding.
_POOL_BATCHES = 16
_CHUNK_ROWS = 10_000
_SCHEMA = pyarrow.schema(
    {
        "key": "string",
        "duration_s": "float64",
        "instruction": "string",
        "response": "string",
        "packed": "binary",
    }
)


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance with the answer that is to be learned."""

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
        return cls(cut.id, cut.duration, instruction, response, zlib.compress(sound, level=1))

    @property
    def cut(self) -> Cut:
        """Its sound."""
        from lhotse.serialization import deserialize_item

        cut: Cut = deserialize_item(json.loads(zlib.decompress(self.packed)))
        return cut


class Rows(Sequence[Row]):
    """Rows as an Arrow table: of a file that is mapped into memory, millions take none of a process's own."""

    def __init__(self, table: Any, tagged: bool = False) -> None:
        """The rows of `table`, which has the columns of `Row`; `tagged` holds for all of them."""
        self._table, self._tagged = table, tagged

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        """Rows in memory, none of them tagged."""
        return cls(pyarrow.Table.from_batches([_record_batch(list(rows))]))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        numbers = range(len(self))[index]
        if isinstance(numbers, int):
            (row,) = self[numbers : numbers + 1]
            return row
        if numbers.step != 1:
            return [self[number] for number in numbers]
        some = self._table.slice(numbers.start, len(numbers))
        return [Row(**values, tagged=self._tagged) for values in some.to_pylist()]

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _CHUNK_ROWS):
            yield from self[start : start + _CHUNK_ROWS]

    @property
    def duration_s(self) -> float:
        """Of all of them."""
        return float(compute.sum(self._table["duration_s"]).as_py())

    @property
    def durations_s(self) -> Sequence[float]:
        """Of each."""
        return array("d", self._table["duration_s"].to_numpy().tobytes())

    def in_tags(self) -> Rows:
        """The same, tagged."""
        return Rows(self._table, tagged=True)

    def without(self, keys: set[str]) -> Rows:
        """Those of other cuts than `keys`."""
        if not keys:
            return self
        gone = compute.is_in(self._table["key"], pyarrow.array(sorted(keys), "string"))
        return Rows(self._table.filter(compute.invert(gone)), self._tagged)


def distinct(sets: Iterable[Rows]) -> tuple[int, float]:
    """How many cuts the rows of some sets are of, and their seconds."""
    tables = [rows._table.select(["key", "duration_s"]) for rows in sets]
    cuts = pyarrow.concat_tables(tables).group_by("key").aggregate([("duration_s", "max")])
    return cuts.num_rows, compute.sum(cuts["duration_s_max"]).as_py()


def read_rows(
    targets: Path, settings: Filter, author: Mapping[str, str] | None = None
) -> tuple[Rows, dict[str, int]]:
    """Rows of one set of targets, and how many were left out for which reason; both are kept in .work for the next time.

    Args:
        targets: folder of the set.
        settings: what may become a row.
        author: what the provenance of a target, where it has one, must hold: the language model that is trained against
            learns nothing from the answers of another.

    Raises:
        ManifestError: a cut has no target or one by another author, or none is left.
    """
    store = work_dir("rows", {"targets": hash_files([targets]), "filter": settings, "author": author})
    path, rejected = store / "rows.arrow", store / "rejected.json"
    if not path.exists():
        rejects: dict[str, int] = {}
        rows = _fit_rows(targets, settings, author, rejects)
        draft = store / f".{os.getpid()}.partial"
        with pyarrow.OSFile(str(draft), "wb") as file, pyarrow.ipc.new_file(file, _SCHEMA) as writer:
            while some := list(islice(rows, _CHUNK_ROWS)):
                writer.write_batch(_record_batch(some))
        write_json(rejected, rejects)
        draft.replace(path)
    with pyarrow.memory_map(str(path)) as file:
        return Rows(pyarrow.ipc.open_file(file).read_all()), json.loads(rejected.read_text(encoding="utf-8"))


def _record_batch(rows: Sequence[Row]) -> Any:
    columns = [[getattr(row, name) for row in rows] for name in _SCHEMA.names]
    return pyarrow.RecordBatch.from_arrays(
        [pyarrow.array(column, kind) for column, kind in zip(columns, _SCHEMA.types, strict=True)],
        schema=_SCHEMA,
    )


def _fit_rows(
    targets: Path, settings: Filter, author: Mapping[str, str] | None, rejects: dict[str, int]
) -> Iterator[Row]:
    """The rows of a set; counts in `rejects` what is left out."""
    num_rows = 0
    for cut in read_cuts(targets / "cuts.jsonl.gz"):
        reason = unfit(cut.duration, cut_text(cut), settings)
        if reason:
            rejects[reason] = rejects.get(reason, 0) + 1
            continue
        custom = cut.supervisions[0].custom or {}
        if not isinstance(custom.get("response"), str):
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
        num_rows += 1
        yield Row.of(cut, custom.get("instruction") or "", custom["response"])
    if not num_rows:
        raise ManifestError(
            f"{targets}: no row is left to train on ({rejects}): widen `filter` in params.yaml"
        )


def with_tagged(
    sets: Mapping[str, Rows], weights: Mapping[str, float], share: float
) -> tuple[dict[str, Rows], dict[str, float]]:
    """Sets and weights in which each set comes twice: bare, and `share` of the time in the tags.

    Stage 2 keeps the semantic projector as it is and puts its audio into tags, where a small language model
    understands less of what was only ever heard bare.
    """
    bare = {name: (1 - share) * weight for name, weight in weights.items()}
    tagged = {f"{name} in tags": rows.in_tags() for name, rows in sets.items()}
    return {**sets, **tagged}, bare | {f"{name} in tags": share * weight for name, weight in weights.items()}


def batches(
    sets: Mapping[str, Rows],
    weights: Mapping[str, float],
    batch_size: int,
    seed: int,
    lengths: Mapping[str, Sequence[int]],
    max_batch_s: float | None = None,
    start: int = 0,
) -> Iterator[list[Row]]:
    """Endless batches that mix the sets by hours times weight, each of them a function of the arguments alone.

    Args:
        sets: rows by the name of their set.
        weights: of the sets, by their names.
        batch_size: rows of a batch, at most.
        seed: of the order.
        lengths: how much room each row of each set takes in a batch; rows of like length come together.
        max_batch_s: seconds of audio in a batch of more than one row, at most.
        start: how many batches have been before; they are drawn again, but not read.
    """
    rng = random.Random(seed)
    names = sorted(sets)
    shares = [sets[name].duration_s / 3600 * weights[name] for name in names]
    durations_s = {name: sets[name].durations_s for name in names} if max_batch_s else {}
    streams = {name: _shuffled(len(sets[name]), random.Random(f"{seed}-{name}")) for name in names}

    def draw() -> Iterator[list[tuple[str, int]]]:
        while True:
            places = rng.choices(names, shares, k=batch_size * _POOL_BATCHES)
            drawn = [(name, next(streams[name])) for name in places]
            drawn.sort(key=lambda place: lengths[place[0]][place[1]])
            chunks = _chunks(drawn, batch_size, max_batch_s, durations_s)
            rng.shuffle(chunks)
            yield from chunks

    return ([sets[name][index] for name, index in batch] for batch in islice(draw(), start, None))


def _chunks(
    drawn: list[tuple[str, int]],
    batch_size: int,
    max_batch_s: float | None,
    durations_s: Mapping[str, Sequence[float]],
) -> list[list[tuple[str, int]]]:
    if not max_batch_s:
        return [drawn[i : i + batch_size] for i in range(0, len(drawn), batch_size)]
    chunks: list[list[tuple[str, int]]] = []
    held_s = math.inf
    for name, index in drawn:
        duration_s = durations_s[name][index]
        if held_s + duration_s > max_batch_s or len(chunks[-1]) == batch_size:
            chunks.append([])
            held_s = 0.0
        chunks[-1].append((name, index))
        held_s += duration_s
    return chunks


def _shuffled(num: int, rng: random.Random) -> Iterator[int]:
    """All numbers below `num` in random order, again and again."""
    while True:
        yield from array("I", rng.sample(range(num), num))
