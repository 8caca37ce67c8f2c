"""A manifest in blocks, and the blocks in shards for many processes or machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from azeros.errors import ParamsError

if TYPE_CHECKING:
    from lhotse.cut import Cut

# So many cuts are in memory at once: they are sorted by length and answered before the next ones are read.
BLOCK_CUTS = 4096


def blocks(cuts: Iterable[Cut]) -> Iterator[list[Cut]]:
    """Cuts, so many at a time."""
    remaining = iter(cuts)
    while block := list(islice(remaining, BLOCK_CUTS)):
        yield block


@dataclass(frozen=True)
class Shard:
    """One of `num` parts of the work, counted from 0."""

    index: int
    num: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Of "2/8", the second of eight.

        Raises:
            ParamsError: it does not look so.
        """
        number, slash, num = text.partition("/")
        if slash and number.isdecimal() and num.isdecimal() and 1 <= int(number) <= int(num):
            return cls(int(number) - 1, int(num))
        raise ParamsError(f"--shard {text}: write the number of this shard and of all, like 2/8")

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.num}"

    def has(self, block: int) -> bool:
        """Whether it is to answer a block of cuts, counted from 0."""
        return block % self.num == self.index


WHOLE = Shard(0, 1)
