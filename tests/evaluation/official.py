"""Miniature benchmarks in the layouts in which their authors publish them."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import soundfile
from pyarrow import parquet


def wav(duration_s: float, rate: int = 16_000) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, round(duration_s * rate))
    soundfile.write(stream, noise, rate, format="WAV")
    return stream.getvalue()


def write_voicebench(
    folder: Path,
    subset: str,
    split: str,
    rows: Sequence[Mapping[str, Any]],
    num_shards: int = 1,
    recordings: Sequence[bytes | None] | None = None,
) -> None:
    """Rows with recordings of 0.3 s, 0.4 s, ... as `Dataset.push_to_hub` lays them out, two rows a row group."""
    (folder / subset).mkdir(parents=True, exist_ok=True)
    sounds = recordings or [wav(0.3 + 0.1 * i) for i in range(len(rows))]
    whole = [
        {"audio": {"bytes": sound, "path": None}, **row} for row, sound in zip(rows, sounds, strict=True)
    ]
    for shard in range(num_shards):
        table = pyarrow.Table.from_pylist(whole[shard::num_shards] if num_shards > 1 else whole)
        name = f"{split}-{shard:05d}-of-{num_shards:05d}.parquet"
        parquet.write_table(table, folder / subset / name, row_group_size=2)


def write_airbench(folder: Path, kind: str, items: Sequence[Mapping[str, Any]]) -> None:
    """Foundation or Chat: the list of items, and a recording for each."""
    (folder / kind).mkdir(parents=True)
    (folder / kind / f"{kind}_meta.json").write_text(json.dumps(items), encoding="utf-8")
    for item in items:
        path = folder / kind / f"{item['task_name']}_{item['dataset_name']}" / item["path"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wav(0.5))
