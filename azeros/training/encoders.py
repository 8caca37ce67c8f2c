"""Where training gets encoder outputs: from what was stored, or computed for each batch anew from features that may be augmented.

Letters: B batch, T feature frames (100 Hz), F mel bins.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from azeros.model.encoding import FRAMES_PER_S, EncoderOutputs, features_for
from azeros.model.speech_llm import AZerosModel
from azeros.training.encoded import EncodedCuts
from azeros.training.rows import Row
from azeros.training.unreadable import Unreadable

if TYPE_CHECKING:
    from lhotse.cut import Cut

# Batches whose recordings are read while others are trained on.
_AHEAD = 4

Features = dict[str, Tensor]
"""Branch -> (T, F) float32 of one recording."""


class Encoder(Protocol):
    """Batches to encoder outputs, in two steps: the first may run ahead of training."""

    def num_frames(self, row: Row) -> dict[str, int]:
        """Branch -> encoder frames of a row: what batches are sorted by."""

    def load(self, stream: Iterator[list[Row]]) -> Iterator[tuple[list[Row], Sequence[Any]]]:
        """Each batch with what `encode` takes, one item a row."""

    def encode(self, loaded: Sequence[Any], draw: int) -> EncoderOutputs:
        """The outputs of (part of) a batch; `draw` numbers what is drawn for it."""


class StoredEncoder:
    """Outputs that were computed once for each recording, by itself."""

    def __init__(self, encoded: EncodedCuts) -> None:
        self._encoded = encoded

    def num_frames(self, row: Row) -> dict[str, int]:
        """Branch -> encoder frames of a row."""
        return self._encoded.num_frames(row.key)

    def load(self, stream: Iterator[list[Row]]) -> Iterator[tuple[list[Row], list[str]]]:
        """Each batch with the ids of its cuts."""
        return ((rows, [row.key for row in rows]) for rows in stream)

    def encode(self, loaded: Sequence[str], draw: int) -> EncoderOutputs:
        """The outputs of a batch, whatever `draw`."""
        return self._encoded.batch(loaded)


class LiveEncoder:
    """Reads recordings in threads, a few batches ahead, and encodes each batch as the original does, padded."""

    def __init__(
        self, model: AZerosModel, augment_seed: int | None, unreadable: Unreadable | None = None
    ) -> None:
        """Mask and warp features if there is an `augment_seed`; what is masked depends on it and on `draw` alone.

        Recordings are read by `unreadable`, which leaves out some that cannot be read; without it none is.
        """
        self._model = model
        self._seed = augment_seed
        self._unreadable = unreadable or Unreadable()

    def num_frames(self, row: Row) -> dict[str, int]:
        """Branch -> encoder frames of a row, to within two."""
        num = round(row.duration_s * FRAMES_PER_S)
        return {name: num // encoder.stride for name, encoder in self._model.encoders().items()}

    def load(self, stream: Iterator[list[Row]]) -> Iterator[tuple[list[Row], list[Features]]]:
        """Each batch with the features of its recordings, without the rows that are left out.

        Raises:
            AudioError: a recording is gone or unreadable.
        """
        waiting: deque[tuple[list[Row], list[Future[Features | None]]]] = deque()
        with ThreadPoolExecutor(os.cpu_count(), "features") as pool:
            for rows in stream:
                waiting.append((rows, [pool.submit(self._features, row.cut) for row in rows]))
                if len(waiting) > _AHEAD:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())

    def encode(self, loaded: Sequence[Features], draw: int) -> EncoderOutputs:
        """The outputs of a batch's features, augmented by the seed and `draw`."""
        inputs: dict[str, tuple[Tensor, Tensor]] = {}
        for name, encoder in self._model.encoders().items():
            items = [features[name] for features in loaded]
            padded = pad_sequence(items, batch_first=True, padding_value=encoder.padding)
            if self._seed is not None:
                padded = _augmented(padded, hash((self._seed, draw)) % 2**32)
            inputs[name] = (padded, torch.tensor([len(item) for item in items]))
        return self._model.encode_features(inputs)

    def _features(self, cut: Cut) -> Features | None:
        wave = self._unreadable.load(cut)
        if wave is None:
            return None
        return {name: features_for(encoder, [wave])[0][0] for name, encoder in self._model.encoders().items()}


def _finished(rows: list[Row], futures: list[Future[Features | None]]) -> tuple[list[Row], list[Features]]:
    read = [(row, future.result()) for row, future in zip(rows, futures, strict=True)]
    return [row for row, found in read if found is not None], [
        found for _, found in read if found is not None
    ]


def _augmented(features: Tensor, seed: int) -> Tensor:
    """SpecAugment with lhotse's own settings, which are the original's (spec/AZEROS.md section 5). (B, T, F) -> (B, T, F)."""
    from lhotse.dataset import SpecAugment

    with _seeded(seed):
        augmented: Tensor = SpecAugment()(features)
    return augmented


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` in the three generators that lhotse uses, and leave them as they were."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)
