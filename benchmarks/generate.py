"""A batch of conversations against as many single calls, on the tiny world: encoders, projectors and language model."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from azeros import AZerosModel

_WEIGHTS = Path(__file__).parents[1] / "azeros" / "tiny" / "weights"


def main() -> None:
    """Time both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16, help="conversations (default 16)")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each answer (default 200)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each; the median counts (default 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = AZerosModel.from_foundation(
        _WEIGHTS / "llm", _WEIGHTS / "speech_encoder", _WEIGHTS / "paraling_encoder", seed=1
    )
    drawn = torch.Generator().manual_seed(1)
    # Utterances of 1 to 4 seconds; fresh projectors make of them no language, which costs as much time.
    durations = torch.linspace(1.0, 4.0, args.batch)
    waves = [0.1 * torch.randn(int(16_000 * duration), generator=drawn) for duration in durations]
    messages = [
        [{"role": "user", "content": f"{model.audio_token_wrapped} repeat what was said."}]
    ] * args.batch
    options: dict[str, Any] = {
        "max_new_tokens": args.tokens,
        "min_new_tokens": args.tokens,
        "min_length": None,
        "return_ids": True,
    }
    encoded = [model.encode_audios([wave]) for wave in waves]
    kinds: dict[str, tuple[Any, list[Any]]] = {
        "from recordings": (waves, [[wave] for wave in waves]),
        "from encoder outputs": (model.encode_audios(waves, by_length=True), encoded),
    }
    for kind, (together, alone) in kinds.items():
        times: list[tuple[float, float]] = []
        for _ in range(args.rounds):
            start = time.process_time()
            batch = model.generate(together, messages, by_length=True, **options)
            middle = time.process_time()
            single = [model.generate(a, [m], **options)[0] for a, m in zip(alone, messages, strict=True)]
            times.append((middle - start, time.process_time() - middle))
        batch_s, single_s = (statistics.median(own) for own in zip(*times, strict=True))
        equal = sum(a == b for a, b in zip(batch, single, strict=True))
        print(
            f"{args.batch} answers of {args.tokens} tokens {kind}, one thread, CPU time: one by one {single_s:.2f} s, "
            f"together {batch_s:.2f} s: {single_s / batch_s:.1f} times as fast; {equal} of {args.batch} answers equal"
        )


if __name__ == "__main__":
    main()
