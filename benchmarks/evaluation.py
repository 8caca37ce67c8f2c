"""A benchmark's set put to a model in batches sorted by length, against one recording at a time: the same requests, one run."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from azeros.evaluation.generation import generate
from azeros.evaluation.responses import read_responses
from azeros.evaluation.samples import load_samples
from azeros.evaluation.systems.azeros import Azeros
from azeros.params import AzerosSystem
from azeros.tiny.benchmarks import write_benchmarks
from azeros.tiny.world import World


def main() -> None:
    """Time both, and compare what was answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/azeros"), help="a packaged model")
    parser.add_argument("--rows", type=int, default=64, help="recordings (default 64)")
    parser.add_argument("--batch", type=int, default=16, help="recordings at once (default 16)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_benchmarks(Path(folder), World(), args.rows, seed=1)
        asked = load_samples("voicebench", "wildvoice", Path(folder) / "voicebench", partial=True)
        times, answers = [], []
        for batch_size in (1, args.batch):
            settings = AzerosSystem(
                kind="azeros", path=str(args.model), dtype="float32", batch_size=batch_size, max_new_tokens=200,
                choice_suffix=None,
            )  # fmt: skip
            system = Azeros(settings)
            start = time.process_time()
            path = generate("azeros", system, asked, Path(folder) / str(batch_size))
            times.append(time.process_time() - start)
            answers.append([row.fields["response"] for row in read_responses(path)])
    alone, together = times
    equal = sum(a == b for a, b in zip(*answers, strict=True))
    print(
        f"{len(asked.samples)} recordings, one thread, CPU time: one by one {alone:.2f} s, in batches of {args.batch} "
        f"{together:.2f} s: {alone / together:.1f} times as fast; {equal} of {len(asked.samples)} answers equal"
    )


if __name__ == "__main__":
    main()
