"""The processes that train together: one, or those that torchrun or accelerate launched."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from azeros.device import default_device
from azeros.errors import StageError

T = TypeVar("T")
# What launchers tell each process that they start.
_LAUNCHED = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
# The others wait while the first encodes; the launcher ends them all when one has died.
_TIMEOUT = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """How many there are, and which one this is."""

    rank: int = 0
    num: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that reports, and writes files."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part: of sorted items a part as mixed as any."""
        return list(items[self.rank :: self.num])

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over all processes."""
        if self.num == 1:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64, device=default_device())
        distributed.all_reduce(totals)
        return totals.tolist()

    def most(self, num: int) -> int:
        """The greatest `num` of any process."""
        if self.num == 1:
            return num
        greatest = torch.tensor(num, device=default_device())
        distributed.all_reduce(greatest, distributed.ReduceOp.MAX)
        return int(greatest)

    def union(self, items: set[str]) -> set[str]:
        """What any process has."""
        if self.num == 1:
            return items
        found: list[set[str]] = [set()] * self.num
        distributed.all_gather_object(found, items)
        return set().union(*found)

    def from_first(self, value: T) -> T:
        """What the first process has."""
        if self.num == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]

    def sum_gradients(self, params: Sequence[torch.nn.Parameter]) -> None:
        """Put the sum over all processes in the place of each gradient."""
        if self.num == 1:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        together = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(together)
        for param, grad in zip(params, together.split([p.numel() for p in params]), strict=True):
            param.grad = grad.view_as(param)

    @contextmanager
    def one_after_the_first(self) -> Iterator[None]:
        """Run the block in the first process, and then in the others, which find what it has stored."""
        if self.num > 1 and not self.is_first:
            distributed.barrier()
        yield
        if self.num > 1 and self.is_first:
            distributed.barrier()


ALONE = Processes()


@contextmanager
def join() -> Iterator[Processes]:
    """The group that this process was launched in, or this process alone."""
    if not os.environ.keys() >= _LAUNCHED:
        yield ALONE
        return
    device = default_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def launch(launcher: str | None) -> None:
    """Run this very command under `launcher`, unless there is none or it has been launched already. Does not return if it does.

    Raises:
        StageError: it is no command, or there is no such program.
    """
    if not launcher or os.environ.keys() >= _LAUNCHED:
        return
    try:
        name, *options = shlex.split(launcher)
    except ValueError as error:
        raise StageError(
            f"train.launcher: {launcher!r} is no command ({error}); mend it, or set null"
        ) from None
    # First beside this Python: its environment need not be the active one.
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    program = shutil.which(name, path=folders)
    if program is None:
        raise StageError(f"train.launcher: there is no program {name}; install it, or set null")
    os.execv(program, [program, *options, "-m", "azeros", *sys.argv[1:]])
