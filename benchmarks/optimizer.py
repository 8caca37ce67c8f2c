"""Our Muon against torch.optim.Muon: one step on the weight matrices of the tiny world's projectors."""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from azeros.training.optimizer import Muon


def projectors() -> nn.ModuleList:
    """The maps of both projectors with random gradients."""
    torch.manual_seed(0)
    maps = nn.ModuleList(nn.Linear(wide, 160, bias=False) for width in (704, 384) for wide in (width, 160))
    for parameter in maps.parameters():
        parameter.grad = torch.randn_like(parameter)
    return maps


def main() -> None:
    """Time both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=15, help="steps of each; the median counts (default 15)"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    ours, theirs = projectors(), projectors()
    optimizers = [
        Muon(ours.parameters(), lr=0.02, adam_share=0.1, matrices=ours.parameters()),
        torch.optim.Muon(theirs.parameters(), lr=0.02, momentum=0.95, weight_decay=0.0),
    ]
    times: list[list[float]] = [[], []]
    for _ in range(args.rounds):
        for optimizer, own in zip(optimizers, times, strict=True):
            start = time.process_time()
            optimizer.step()
            own.append(time.process_time() - start)
    ours_s, theirs_s = (statistics.median(own) for own in times)
    print(
        f"{len(ours)} matrices, one thread, CPU time of a step: torch.optim.Muon {theirs_s * 1e3:.1f} ms, "
        f"ours {ours_s * 1e3:.1f} ms: {theirs_s / ours_s:.1f} times as fast"
    )


if __name__ == "__main__":
    main()
