"""Recordings that could be read when they were prepared and cannot any more: left out and counted, up to a limit."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from azeros.data.audio import load_cut
from azeros.errors import AudioError

if TYPE_CHECKING:
    from lhotse.cut import Cut

logger = logging.getLogger(__name__)


@dataclass
class Unreadable:
    """The ids of such cuts so far, of which there may be `limit`; kept in a file if there is a `path`, for a run that goes on."""

    limit: int = 0
    path: Path | None = None
    ids: set[str] = field(default_factory=set)
    _one_at_a_time: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        if self.path and self.path.exists():
            self.ids.update(json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines())

    def load(self, cut: Cut) -> NDArray[np.float32] | None:
        """The samples of a cut as `load_cut` gives them; None if it is left out.

        Raises:
            AudioError: it cannot be read, and too many before it could not.
        """
        try:
            return load_cut(cut)
        except AudioError as error:
            with self._one_at_a_time:  # of the threads that encode
                self._leave_out(cut.id, error)
            return None

    def _leave_out(self, cut_id: str, error: AudioError) -> None:
        if len(self.ids | {cut_id}) > self.limit:
            allowed = f"; {self.limit} before it were left out (max_unreadable_share)" if self.limit else ""
            raise AudioError(f"{error}{allowed}") from error
        if cut_id not in self.ids:
            logger.warning("left out: %s", error)
            self.ids.add(cut_id)
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(cut_id) + "\n")
