"""The mean of the trained parameters over the last steps, as the original takes it (spec/AZEROS.md section 5)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from azeros.params import Average


class ParameterAverage:
    """A running mean over all steps, sampled every period; the mean over the last steps is the difference of two of it.

    Attributes:
        mean: name -> float64, the mean over the steps so far.
        before: `mean` as it was before the last steps began; empty until then.
    """

    def __init__(self, params: Mapping[str, Tensor], settings: Average, num_steps: int) -> None:
        self._params = params
        self._settings = settings
        self._first_step = num_steps - settings.last_steps
        self._num_steps = num_steps
        self.mean = {name: param.detach().double() for name, param in params.items()}
        self.before: dict[str, Tensor] = {}

    def update(self, step: int) -> None:
        """Take the parameters in after `step`, counted from 1."""
        if step % self._settings.period_steps == 0:
            share = self._settings.period_steps / step
            self.mean = {
                name: mean * (1 - share) + self._params[name].detach() * share
                for name, mean in self.mean.items()
            }
        if step == self._first_step:
            self.before = self.mean

    @torch.no_grad()
    def apply(self) -> None:
        """Put the mean over the last steps in the place of the parameters."""
        mean = over(self.before, self._first_step, self.mean, self._num_steps)
        for name, param in self._params.items():
            param.copy_(mean[name])


def over(before: Mapping[str, Tensor], start: int, mean: Mapping[str, Tensor], end: int) -> dict[str, Tensor]:
    """The mean over the steps behind `start` up to `end`, of the means over all steps up to each; from 0 on, the latter."""
    if not start:
        return dict(mean)
    return {name: (mean[name] * end - before[name] * start) / (end - start) for name in mean}
