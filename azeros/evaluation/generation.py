"""Have a system answer a set: responses in the official file, kept as they come, so that a killed run goes on.

Beside `NAME.jsonl` stands `NAME.run.json`, what the responses depend on; until the run is complete its rows are in
`NAME.partial.jsonl`, official rows too, in the order in which they were asked for; those with `error` are asked for again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from azeros.errors import BenchmarkError, EndpointError
from azeros.evaluation.responses import read_responses, to_line, write_responses
from azeros.evaluation.samples import Sample, SampleSet
from azeros.evaluation.systems.base import Request, System
from azeros.progress import track
from azeros.work import write_json

_log = logging.getLogger(__name__)

Row = dict[str, Any]

# What the run record says of the data beside their hash, which decides whether they are the same.
_TOLD = {"complete": "is_complete", "repeated": "num_repeated"}


def generate(name: str, system: System, chosen: SampleSet, folder: Path) -> Path:
    """Write `system`'s responses to `folder`/NAME-SUBSET-SPLIT-MODALITY.jsonl, in the order of the data.

    An item that fails has a null response and the field `error`; the same command asks for it again.

    Args:
        name: of the system.
        system: who is asked.
        chosen: what is asked.
        folder: of the response file.

    Returns:
        The response file.

    Raises:
        BenchmarkError: the system cannot take the set; the file is of other data or settings.
        EndpointError: the system's endpoint refuses all, or stays away; what was answered is kept.
    """
    if hindrance := find_hindrance(system, chosen):
        raise BenchmarkError(f"{chosen.benchmark} {chosen.subset} cannot be put to {name}: {hindrance}")
    path = folder / f"{name}-{chosen.subset}-{chosen.split}-{system.modality}.jsonl"
    _claim(path, _record(name, system, chosen))
    order = _by_length(chosen.samples, system)
    if path.exists():
        rows = _read_whole(path, len(chosen.samples))
        _ask_again(system, chosen.samples, rows, order, path)
    else:
        answered = _ask(system, [chosen.samples[index] for index in order], path)
        rows = [row for _, row in sorted(zip(order, answered, strict=True), key=lambda pair: pair[0])]
        write_responses(path, rows)
    _partial(path).unlink(missing_ok=True)
    failed = [row["error"] for row in rows if "error" in row]
    if failed:
        _log.warning(
            "%s: %d of %d failed, the first by %s; the same command asks for them again"
            " (dvc repro with --force --single-item: it skips a stage that succeeded)",
            path, len(failed), len(rows), failed[0],
        )  # fmt: skip
    return path


def find_hindrance(system: System, chosen: SampleSet) -> str | None:
    """Why the system cannot take the set, if it cannot."""
    requests = [sample.request for sample in chosen.samples]
    if system.modality == "text" and any(request.transcript is None for request in requests):
        return "it reads, and the set has no transcripts"
    if not system.takes_instructions and any(request.instruction for request in requests):
        return "it takes speech alone, and the set asks in writing"
    return None


def _record(name: str, system: System, chosen: SampleSet) -> dict[str, Any]:
    return {
        "system": name,
        "modality": system.modality,
        "identity": system.identity,
        "benchmark": chosen.benchmark,
        "subset": chosen.subset,
        "num_rows": len(chosen.samples),
        "data_sha256": chosen.fingerprint(),
        **{name: getattr(chosen, attribute) for name, attribute in _TOLD.items()},
    }


def _claim(path: Path, record: dict[str, Any]) -> None:
    """Note what the responses at `path` depend on, or find that they depend on the same."""
    place = path.with_suffix(".run.json")
    if not place.exists():
        if path.exists() or _partial(path).exists():
            raise BenchmarkError(
                f"{path}: responses of unknown origin, {place.name} is missing; move them away"
            )
        write_json(place, record)
        return
    try:
        earlier = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchmarkError(f"{place}: not JSON ({error}); move it away with the responses") from error
    compared = (record.keys() | earlier.keys()) - _TOLD.keys()
    differing = sorted(key for key in compared if record.get(key) != earlier.get(key))
    if differing:
        raise BenchmarkError(
            f"{path}: begun with other settings or data ({', '.join(differing)} in {place.name}); move it away or"
            " give another folder"
        )
    if earlier != record:
        write_json(place, record)


def _partial(path: Path) -> Path:
    return path.with_suffix(".partial.jsonl")


def _by_length(samples: Sequence[Sample], system: System) -> list[int]:
    """Longest first: little padding in a batch, and what does not fit into memory shows at once."""

    def length(index: int) -> tuple[int, int]:
        request = samples[index].request
        size = len(request.transcript or "") if system.modality == "text" else request.recording.num_bytes
        return -size, index

    return sorted(range(len(samples)), key=length)


def _ask(system: System, samples: Sequence[Sample], path: Path) -> list[Row]:
    """Rows of `samples` in their order; whole batches that an earlier run left are taken from its file."""
    partial = _partial(path)
    rows = _resume(partial, samples, system.batch_size)
    _ask_again(system, samples, rows, range(len(rows)), partial)
    with partial.open("a", encoding="utf-8") as file, track(path.stem, len(samples)) as advance:
        advance(len(rows))
        for start in range(len(rows), len(samples), system.batch_size):
            answered, failure = _respond(system, samples[start : start + system.batch_size])
            file.writelines(map(to_line, answered))
            file.flush()
            if failure:
                raise failure
            rows += answered
            advance(len(answered))
    return rows


def _resume(partial: Path, samples: Sequence[Sample], batch_size: int) -> list[Row]:
    """Rows of the batches that were finished; a batch of which a part is there is cut off, and asked for again.

    Answers may depend on the batch in their last bits: so they are those of a run that was never killed.
    """
    if not partial.exists():
        return []
    lines = partial.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    kept = whole if len(whole) == len(samples) else whole[: len(whole) - len(whole) % batch_size]
    if len(whole) > len(samples):
        raise BenchmarkError(
            f"{partial}: {len(whole)} rows of a set of {len(samples)}; move it away and start again"
        )
    rows = []
    for number, (line, sample) in enumerate(zip(kept, samples, strict=False), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BenchmarkError(
                f"{partial}: line {number}: not JSON ({error}); remove it and all after it"
            ) from error
        if {**row, "response": None, "error": None} != {**sample.result_row(None), "error": None}:
            raise BenchmarkError(
                f"{partial}: line {number}: not the row that was asked about; move the file away"
            )
        rows.append(row)
    with partial.open("r+b") as file:
        file.truncate(sum(map(len, kept)))
    return rows


def _read_whole(path: Path, num_rows: int) -> list[Row]:
    rows = [dict(row.fields) for row in read_responses(path)]
    if len(rows) != num_rows:
        raise BenchmarkError(f"{path}: {len(rows)} rows of a set of {num_rows}; move it away and start again")
    return rows


def _ask_again(
    system: System, samples: Sequence[Sample], rows: list[Row], order: Sequence[int], path: Path
) -> None:
    """Ask once more for those of `rows` that failed, and put them into the list, and the list into the file, with each batch."""
    failed = [index for index in order if "error" in rows[index]]
    with track(path.stem, len(failed)) as advance:
        for start in range(0, len(failed), system.batch_size):
            batch = failed[start : start + system.batch_size]
            answered, failure = _respond(system, [samples[index] for index in batch])
            for index, row in zip(batch, answered, strict=True):
                rows[index] = row
            write_responses(path, rows)
            if failure:
                raise failure
            advance(len(batch))


def _respond(system: System, samples: Sequence[Sample]) -> tuple[list[Row], EndpointError | None]:
    """Rows of `samples`, and what the system fails with after them; raises that if none of them is answered."""
    replies = system.respond([_suffixed(sample.request, system.choice_suffix) for sample in samples])
    failure = next((reply.failure for reply in replies if reply.failure), None)
    if failure and all(reply.response is None for reply in replies):
        raise failure
    rows = [
        sample.result_row(reply.response) | ({} if reply.error is None else {"error": reply.error})
        for sample, reply in zip(samples, replies, strict=True)
    ]
    return rows, failure


def _suffixed(request: Request, choice_suffix: str | None) -> Request:
    if not request.has_choices or choice_suffix is None:
        return request
    return replace(request, instruction=f"{request.instruction}\n{choice_suffix}")
