"""Streaming manifests against loading them: peak memory and cuts per second of filter, mix and sampling, and of finding ids that come twice.

Two synthetic manifests are filtered as for training, mixed 7 : 3 by lhotse's mux and drawn in batches of like length by its
bucketing sampler. Each run is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from azeros.data.manifests import cut_text, read_cuts, unfit
from azeros.data.seen import Seen
from azeros.params import Filter

if TYPE_CHECKING:
    from lhotse.cut import Cut

SHARES = {"large.jsonl.gz": 0.7, "small.jsonl.gz": 0.3}
SETTINGS = Filter(min_duration_s=1.0, max_duration_s=30.0, max_chars_per_s=30.0)
BATCH_S = 600.0
NUM_BUCKETS = 30
# Cuts that the sampler looks ahead; with the fewer of the two numbers of cuts it is already full.
BUFFER = 5000
GROWTH = 1.3  # of peak memory, at most, from the few cuts to the many


def write_manifests(folder: Path, num_cuts: int) -> None:
    """Cuts of 0.5 to 35 s, so that the filter has something to leave out."""
    rng = random.Random(num_cuts)
    for name, share in SHARES.items():
        with gzip.open(folder / name, "wt", compresslevel=1) as stream:
            for number in range(round(num_cuts * share)):
                cut = synthetic_cut(f"{name[0]}{number}", number % 100, round(rng.uniform(0.5, 35), 2))
                stream.write(json.dumps(cut) + "\n")


def synthetic_cut(name: str, speaker: int, duration_s: float) -> dict[str, object]:
    """What prepare writes about an utterance."""
    said = {
        "id": name,
        "recording_id": name,
        "start": 0.0,
        "duration": duration_s,
        "channel": 0,
        "text": "some words",
    }
    said |= {"language": "en", "speaker": f"speaker{speaker}", "custom": {"age_group": "senior"}}
    source = {"type": "file", "channels": [0], "source": f"/corpus/{name[:3]}/{name}.flac"}
    recording = {"id": name, "sources": [source], "sampling_rate": 16_000, "channel_ids": [0]}
    recording |= {"num_samples": round(16_000 * duration_s), "duration": duration_s}
    cut = {"id": name, "start": 0.0, "duration": duration_s, "channel": 0, "type": "MonoCut"}
    return cut | {"supervisions": [said], "recording": recording}


def is_fit(cut: Cut) -> bool:
    """Whether training would take the cut."""
    return unfit(cut.duration, cut_text(cut), SETTINGS) is None


def streamed(folder: Path) -> Iterator[int]:
    """Sizes of the batches drawn from manifests that are read as they are used."""
    from lhotse import CutSet
    from lhotse.dataset import DynamicBucketingSampler

    sets = [read_cuts(folder / name).filter(is_fit) for name in SHARES]
    mix = CutSet.mux(*sets, weights=list(SHARES.values()), seed=0)
    sampler = DynamicBucketingSampler(
        mix,
        max_duration=BATCH_S,
        num_buckets=NUM_BUCKETS,
        buffer_size=BUFFER,
        num_cuts_for_bins_estimate=BUFFER,
        shuffle=True,
        seed=0,
    )
    return (len(batch) for batch in sampler)


def eager(folder: Path) -> Iterator[int]:
    """Sizes of the batches where every manifest is loaded whole, shuffled and sorted into buckets."""
    from lhotse import load_manifest

    cuts = [cut for name in SHARES for cut in load_manifest(folder / name) if is_fit(cut)]
    random.Random(0).shuffle(cuts)
    cuts.sort(key=lambda cut: int(cut.duration * NUM_BUCKETS / SETTINGS.max_duration_s))
    batch, held_s = 0, 0.0
    for cut in cuts:
        if held_s + cut.duration > BATCH_S:
            yield batch
            batch, held_s = 0, 0.0
        batch, held_s = batch + 1, held_s + cut.duration
    yield batch


def ids(folder: Path) -> Iterator[int]:
    """Ones, for each cut whose id did not come before, as prepare and check find it."""
    with Seen() as seen:
        for name in SHARES:
            for cut in read_cuts(folder / name):
                yield seen.first(cut.id) is None


WAYS: dict[str, Callable[[Path], Iterator[int]]] = {"streamed": streamed, "eager": eager, "ids": ids}


def measure(way: str, folder: Path) -> dict[str, float]:
    """Run this file on its own: how many cuts came, in how many CPU seconds, at which peak of memory (MiB)."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    result: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    return result


def run_here(way: str, folder: Path) -> dict[str, float]:
    """What `measure` measures."""
    started = time.process_time()
    num_cuts = sum(WAYS[way](folder))
    taken_s = time.process_time() - started
    return {
        "cuts": num_cuts,
        "seconds": taken_s,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure few cuts and many, streamed; and many, loaded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=10_000, help="cuts (default 10,000)")
    parser.add_argument("--many", type=int, default=1_000_000, help="cuts (default 1,000,000)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(run_here(args.way, args.folder)))
        return
    with tempfile.TemporaryDirectory() as few, tempfile.TemporaryDirectory() as many:
        write_manifests(Path(few), args.few)
        write_manifests(Path(many), args.many)
        runs = {
            f"streamed {args.few:,}": measure("streamed", Path(few)),
            f"streamed {args.many:,}": measure("streamed", Path(many)),
            f"eager {args.many:,}": measure("eager", Path(many)),
            f"ids {args.few:,}": measure("ids", Path(few)),
            f"ids {args.many:,}": measure("ids", Path(many)),
        }
    for name, run in runs.items():
        print(
            f"{name}: {run['cuts']:,} cuts kept, {run['cuts'] / run['seconds']:,.0f} a CPU second, {run['mib']:.0f} MiB"
        )
    small, large, loaded, few_ids, many_ids = runs.values()
    if large["cuts"] != loaded["cuts"] or many_ids["cuts"] != args.many:
        raise SystemExit("streamed and loaded, not the same number of cuts was drawn")
    growth = large["mib"] / small["mib"]
    speed = loaded["seconds"] / large["seconds"]
    print(
        f"streaming {args.many // args.few} times the cuts takes {growth:.2f} times the memory; loaded, they take "
        f"{loaded['mib'] / large['mib']:.1f} times that of streaming, which is {speed:.2f} times as fast"
    )
    for what, before, after in (("streaming", small, large), ("finding ids", few_ids, many_ids)):
        added = (after["mib"] - before["mib"]) * 2**20 / (args.many - args.few)
        print(f"{what}: {added:.1f} bytes of memory for each further cut")
        if after["mib"] > GROWTH * before["mib"]:
            raise SystemExit(f"memory grew by more than {GROWTH}")


if __name__ == "__main__":
    main()
