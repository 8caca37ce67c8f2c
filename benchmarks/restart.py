"""How long training takes to find its place again, and how much memory its rows take, against keeping lhotse's cuts.

A process that starts reads all rows into a file, measures their lengths and draws the batches that have been; one that starts again
finds file and lengths. Each way is a process of its own; its own memory is what the file, which processes share, is not part of.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from azeros.data.manifests import open_cuts, read_cuts
from azeros.model.foundation import load_tokenizer
from azeros.model.processing import AzerosProcessor
from azeros.params import load_params
from azeros.sift.profile import read_profile
from azeros.stages.train import kept_lengths
from azeros.training.rows import batches, read_rows

PARAMS = load_params(Path("params.yaml"))
AUTHOR = read_profile(PARAMS.foundation.llm).author(PARAMS.sift)
FRAMES_PER_S = 25
WAYS = ("lhotse's cuts", "first start", "start again")
AT = 10_000_000  # rows, about those of the paper's stage 1


def write_targets(folder: Path, num: int) -> None:
    """Rows as `sift` writes them."""
    from lhotse import MonoCut, Recording, SupervisionSegment
    from lhotse.audio import AudioSource

    provenance = {
        **AUTHOR,
        "mode": "sift_s",
        "backend": "x" * 40,
        "generation": {"do_sample": False},
    }
    with open_cuts(folder / "cuts.jsonl.gz") as write:
        for number in range(num):
            name, duration_s = f"corpus-speaker{number % 99:05d}-{number:08d}", 1 + number % 97 / 10
            source = AudioSource("file", [0], f"/corpora/audio/train/{number // 1000:05d}/{name}.flac")
            recording = Recording(name, [source], 16000, round(duration_s * 16000), duration_s)
            words = " ".join(["some words of a transcript"] * (1 + number % 5))
            custom = {"response": f"an answer to {words}", "instruction": "", "input_text": words,
                      "from_model": "some/model", "finish_reason": "stop", "provenance": provenance}  # fmt: skip
            said = SupervisionSegment(name, name, 0.0, duration_s, text=words, language="en", custom=custom)
            write(MonoCut(name, 0.0, duration_s, 0, supervisions=[said], recording=recording))


def measured(work: Callable[[], Any]) -> tuple[Any, float, int]:
    """What `work` gives, its CPU seconds and the bytes that the process's own memory has grown by."""
    before, began_s = own_bytes(), time.process_time()
    result = work()
    return result, time.process_time() - began_s, own_bytes() - before


def own_bytes() -> int:
    """Memory of this process beside the files that are mapped into it."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def run(way: str, folder: Path) -> dict[str, Any]:
    """One way, in this process: how many rows, bytes, and CPU seconds of each part."""
    next(iter(read_cuts(folder / "cuts.jsonl.gz")))  # what is imported for it does not count as rows
    if way == "lhotse's cuts":
        kept, read_s, grown = measured(lambda: list(read_cuts(folder / "cuts.jsonl.gz")))
        return {"num": len(kept), "bytes": grown, "seconds": {"read": read_s}}
    processor = AzerosProcessor(load_tokenizer(Path(PARAMS.foundation.llm.path)))
    os.chdir(folder.parent)  # where rows are kept
    (rows, _), read_s, grown = measured(lambda: read_rows(folder, PARAMS.filter, AUTHOR))
    model: Any = SimpleNamespace(
        processor=processor, tokenizer=processor.tokenizer, audio_token_wrapped="<|AUDIO|>",
        encoders=lambda: ["speech"], speech_encoder_projector=SimpleNamespace(rate=4),
    )  # fmt: skip
    encoder: Any = SimpleNamespace(num_frames=lambda row: {"speech": round(row.duration_s * FRAMES_PER_S)})
    lengths, measure_s, _ = measured(lambda: kept_lengths(folder.parent, {"rows": rows}, model, encoder))
    size = PARAMS.train.stage1.batch_size
    _, skip_s, _ = measured(
        lambda: next(batches({"rows": rows}, {"rows": 1.0}, size, 1, lengths, start=len(rows) // size))
    )
    seconds = {"read": read_s, "lengths": measure_s, "skipping one epoch": skip_s}
    return {"num": len(rows), "bytes": grown, "seconds": seconds}


def measure(num: int) -> dict[str, Any]:
    """Every way with `num` cuts, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        targets = Path(folder) / "targets"
        targets.mkdir()
        write_targets(targets, num)
        command = [sys.executable, __file__, "--way"]
        return {
            way: json.loads(
                subprocess.run([*command, way, targets], check=True, stdout=subprocess.PIPE).stdout
            )
            for way in WAYS
        }


def main() -> None:
    """Write rows and read them in all ways, few and many: what a further row takes is the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument(
        "--way", nargs=2, metavar=("WAY", "FOLDER"), help="for the processes that this one starts"
    )
    args = parser.parse_args()
    if args.way:
        print(json.dumps(run(args.way[0], Path(args.way[1]))))
        return
    few, many = measure(args.rows // 4), measure(args.rows)
    for way in WAYS:
        num, seconds = many[way]["num"], many[way]["seconds"]
        further = (many[way]["bytes"] - few[way]["bytes"]) / (num - few[way]["num"])
        parts = ", ".join(f"{what} {1e6 * s / num:.0f} us" for what, s in seconds.items())
        whole = f"{AT * further / 1e9:.1f} GB, {AT * sum(seconds.values()) / num / 60:.0f} min"
        print(
            f"{way:<14} {further:5.0f} bytes a further row; {parts}; {AT // 1_000_000} million rows: {whole}"
        )


if __name__ == "__main__":
    main()
