"""VoiceBench from a local copy of `hlt-lab/voicebench`: CONFIG/SPLIT-00000-of-00001.parquet, as the hub has it.

A system that hears gets the recording alone, one that reads gets `prompt` (spec/BENCHMARKS.md 1.1 and 1.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from azeros.errors import BenchmarkError, one_line
from azeros.evaluation.samples import Part, Sample, SampleSet
from azeros.evaluation.systems.base import Recording, Request

# Set -> split -> rows. The table has one accent of sd-qa, and all of mmsu in one figure.
SPLITS: dict[str, dict[str, int]] = {
    "alpacaeval": {"test": 199},
    "alpacaeval_full": {"test": 636},
    "commoneval": {"test": 200},
    "wildvoice": {"test": 1000},
    "sd-qa": {"usa": 553},
    "bbh": {"test": 1000},
    "advbench": {"test": 520},
    "ifeval": {"test": 345},
    "openbookqa": {"test": 455},
    "mmsu": {
        "law": 51, "engineering": 107, "other": 546, "biology": 172, "business": 236, "economics": 280,
        "health": 406, "philosophy": 305, "psychology": 317, "history": 104, "chemistry": 167, "physics": 383,
    },
}  # fmt: skip
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.parquet$")


def read_set(subset: str, data: Path) -> SampleSet:
    """All splits of a set that count; recordings stay in their files.

    Raises:
        BenchmarkError: no such set, or a split is missing or not what it should be.
    """
    if subset not in SPLITS:
        raise BenchmarkError(f"voicebench has no set '{subset}'; it has {', '.join(SPLITS)}")
    samples: list[Sample] = []
    parts = []
    for split, num_official in SPLITS[subset].items():
        found = [sample for path in _shards(data / subset, split) for sample in _read_shard(path)]
        heard = [sample for sample in found if sample.request.recording.num_bytes]
        samples += heard
        parts.append(Part(split, len(found), len(found) - len(heard), num_official))
    split = next(iter(SPLITS[subset])) if len(SPLITS[subset]) == 1 else "all"
    return SampleSet("voicebench", subset, split, samples, parts)


def _shards(folder: Path, split: str) -> list[Path]:
    found = {path: _SHARD.search(path.name) for path in sorted(folder.glob(f"{split}-*-of-*.parquet"))}
    shards = [path for path, match in found.items() if match]
    if not shards:
        raise BenchmarkError(
            f"{folder}: no {split}-*-of-*.parquet in it; give a folder in the layout of hlt-lab/voicebench"
            " (hf download --repo-type dataset hlt-lab/voicebench --local-dir DATA)"
        )
    num_shards, *others = {int(match[2]) for match in found.values() if match}
    if others:
        raise BenchmarkError(f"{folder}: two versions of {split}, files of different -of-NNNNN: remove one")
    if len(shards) != num_shards:
        raise BenchmarkError(
            f"{folder}: {len(shards)} of the {num_shards} files of {split}; fetch the others"
        )
    return shards


def _read_shard(path: Path) -> Iterator[Sample]:
    """Rows of a file; sizes of recordings are read here, the recordings when they are wanted."""
    import pyarrow
    from pyarrow import compute, parquet

    try:
        file = parquet.ParquetFile(path)
        missing = {"audio", "prompt"} - set(file.schema_arrow.names)
        if missing:
            raise BenchmarkError(f"{path}: no column {', '.join(sorted(missing))}; it is not of VoiceBench")
        names = [name for name in file.schema_arrow.names if name != "audio"]
        for group in range(file.num_row_groups):
            audio = file.read_row_group(group, columns=["audio"])["audio"].combine_chunks()
            sizes = compute.binary_length(compute.struct_field(audio, "bytes")).to_pylist()
            rows = file.read_row_group(group, columns=names).to_pylist()
            for index, (row, size) in enumerate(zip(rows, sizes, strict=True)):
                recording = Recording(
                    f"{path}: row group {group}, row {index}",
                    size or 0,
                    partial(_read_audio, path, group, index),
                )
                yield Sample(Request(recording, "", row["prompt"]), partial(result_row, row))
    except (pyarrow.ArrowException, OSError) as error:
        detail = one_line(error)
        raise BenchmarkError(f"{path}: not a readable parquet file ({detail}); fetch it again") from error


def result_row(row: Mapping[str, Any], response: str | None) -> dict[str, Any]:
    """The row of the official response file: the data's own fields in their order, and the response."""
    return {**row, "response": response}


def _read_audio(path: Path, group: int, index: int) -> bytes:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        return bytes(file.read_row_group(group, columns=["audio"])["audio"][index].as_py()["bytes"])
