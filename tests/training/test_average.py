"""The averages of the original trainer, and those of a brute-force sum."""

import json
from pathlib import Path

import pytest
import torch

from azeros.params import Average
from azeros.training.average import ParameterAverage, over


def test_the_running_mean_is_the_originals(golden: Path) -> None:
    toy = json.loads((golden / "trainer" / "toy_average.json").read_text())
    first, *others = toy["history"]
    params = {name: torch.tensor(first["cur"][name]) for name in ("keep.weight", "keep.bias")}
    average = ParameterAverage(params, Average(period_steps=toy["average_period"], last_steps=1000), 1000)
    for point in others:
        for name, param in params.items():
            param.copy_(torch.tensor(point["cur"][name]))
        average.update(point["step"])
        for name, mean in average.mean.items():
            torch.testing.assert_close(
                mean, torch.tensor(point["avg"][name], dtype=torch.float64), atol=1e-7, rtol=0
            )


@pytest.mark.parametrize(
    ("start", "file"), [(16, "averaged-iter-24-avg-1.pt"), (0, "averaged-iter-24-avg-0.pt")]
)
def test_the_mean_over_a_range_is_the_originals(start: int, file: str, golden: Path) -> None:
    folder = golden / "trainer" / "run_stage1"
    before, mean = (
        {
            name: value.double()
            for name, value in torch.load(folder / name, weights_only=True)["model_avg"].items()
        }
        for name in ("checkpoint-16.pt", "checkpoint-24.pt")
    )
    ours = over(before, start, mean, 24)
    for name, theirs in torch.load(folder / file, weights_only=True).items():
        torch.testing.assert_close(ours[name], theirs.double(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("last_steps", [4, 8, 20])
def test_the_mean_over_the_last_steps_is_a_plain_sum(last_steps: int) -> None:
    param = torch.zeros(3)
    average = ParameterAverage({"a": param}, Average(period_steps=2, last_steps=last_steps), 20)
    sampled = []
    for step in range(1, 21):
        param += torch.tensor([step, 1.0, -step])
        average.update(step)
        if step % 2 == 0 and step > 20 - last_steps:
            sampled.append(param.double().clone())
    average.apply()
    torch.testing.assert_close(param, torch.stack(sampled).mean(0).float())
