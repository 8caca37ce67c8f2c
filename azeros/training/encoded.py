"""The frozen encoders' outputs, computed once for each recording and kept on disk: training and evaluation read them again and again.

Letters: B batch, T' encoder frames (25 Hz), D encoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from azeros.data.parallel import map_in_order
from azeros.errors import ManifestError
from azeros.model.encoding import FRAMES_PER_S, EncoderOutputs, features_for, run_encoder
from azeros.model.speech_llm import AZerosModel
from azeros.progress import track
from azeros.training.unreadable import Unreadable
from azeros.work import hash_files, work_dir

if TYPE_CHECKING:
    from lhotse.cut import Cut

_SHARD_CUTS = 250
# Seconds of audio that are encoded together at most.
_BATCH_S = 100.0


class EncodedCuts:
    """Encoder outputs by cut id, one branch (speech or paraling) at a time."""

    def __init__(self, outputs: dict[str, dict[str, Tensor]]) -> None:
        self._outputs = outputs

    def batch(self, ids: Sequence[str]) -> EncoderOutputs:
        """The outputs of some cuts as one padded batch; each item is what it would be alone."""
        padded: dict[str, Tensor | None] = {
            "speech": None,
            "speech_lens": None,
            "paraling": None,
            "paraling_lens": None,
        }
        for branch, by_id in self._outputs.items():
            items = [by_id[key] for key in ids]
            padded[branch] = pad_sequence([item.float() for item in items], batch_first=True)
            padded[f"{branch}_lens"] = torch.tensor([len(item) for item in items])
        return EncoderOutputs(**padded)  # type: ignore[arg-type]

    def num_frames(self, key: str) -> dict[str, int]:
        """Branch -> frames of a cut's outputs."""
        return {branch: len(by_id[key]) for branch, by_id in self._outputs.items()}

    def branches(self, names: Iterable[str]) -> EncodedCuts:
        """The outputs of some of the encoders."""
        return EncodedCuts({name: self._outputs[name] for name in names})


def encode_cuts(
    model: AZerosModel,
    encoder_paths: dict[str, str],
    cuts: dict[str, list[Cut]],
    manifests: Path,
    unreadable: Unreadable | None = None,
) -> EncodedCuts:
    """Encode each cut by itself with every encoder of `model`, or read what an earlier stage stored.

    Args:
        model: whose encoders are used.
        encoder_paths: branch -> where its encoder came from; with the content of the corpus it names the store.
        cuts: corpus -> what to encode of it.
        manifests: folder with one manifest folder a corpus.
        unreadable: reads the recordings, and leaves out some that cannot be read; without it none is.

    Raises:
        AudioError: a recording is gone, unreadable or too short.
        ManifestError: two corpora have different recordings of one id.
    """
    unreadable = unreadable or Unreadable()
    _check_ids(cuts)
    outputs: dict[str, dict[str, Tensor]] = {branch: {} for branch in encoder_paths}
    for corpus, of_corpus in cuts.items():
        digest = hash_files([manifests / corpus])
        by_id = {cut.id: cut for cut in of_corpus}
        for branch, path in encoder_paths.items():
            outputs[branch] |= _encode_branch(
                getattr(model, f"{branch}_encoder"), branch, path, by_id, digest, unreadable
            )
    return EncodedCuts(outputs)


def _check_ids(cuts: dict[str, list[Cut]]) -> None:
    """Outputs of all corpora are found by the ids of their cuts."""
    seen: dict[str, tuple[str, Cut]] = {}
    for corpus, of_corpus in cuts.items() if len(cuts) > 1 else ():
        for cut in of_corpus:
            other, first = seen.setdefault(cut.id, (corpus, cut))
            if other != corpus and _sound(first) != _sound(cut):
                raise ManifestError(
                    f"cut {cut.id}: corpora {other} and {corpus} have different recordings of this id: rename the files of one"
                )


def _sound(cut: Cut) -> tuple[object, ...]:
    return cut.start, cut.duration, *(source.source for source in cut.recording.sources)


def _encode_branch(
    encoder: torch.nn.Module,
    branch: str,
    path: str,
    cuts: dict[str, Cut],
    digest: str,
    unreadable: Unreadable,
) -> dict[str, Tensor]:
    from safetensors.torch import load_file, save_file

    weights = hash_files([Path(path)]) if Path(path).is_dir() else path
    store = work_dir("encoded", {"weights": weights, "audio": digest})
    outputs: dict[str, Tensor] = {}
    for shard in sorted(store.glob("*.safetensors")):
        outputs |= load_file(shard)
    missing = sorted(cuts.keys() - outputs.keys(), key=lambda key: (cuts[key].duration, key))
    start = len(list(store.glob("*.safetensors")))
    with track(f"{branch} encoder", total=len(missing)) as advance:
        for number, first in enumerate(range(0, len(missing), _SHARD_CUTS), start):
            encoded = encode_shard(
                encoder, [cuts[key] for key in missing[first : first + _SHARD_CUTS]], advance, unreadable
            )
            if not encoded:
                continue
            draft = store / f".{number:06d}.partial"
            save_file(encoded, draft)
            draft.replace(shard := store / f"{number:06d}.safetensors")
            outputs |= load_file(shard)  # which is mapped: what was encoded need not stay in memory
    return {key: outputs[key] for key in cuts if key not in unreadable.ids}


def encode_shard(
    encoder: torch.nn.Module, cuts: Sequence[Cut], advance: Callable[[int], object], unreadable: Unreadable
) -> dict[str, Tensor]:
    """Cut id -> (T', D) float32. Only cuts of equal length share a batch, so that each is as if alone."""
    read = zip(cuts, map_in_order(unreadable.load, cuts), strict=True)
    loaded = [(cut.id, wave) for cut, wave in read if wave is not None]
    advance(len(cuts) - len(loaded))
    if not loaded:
        return {}
    ids, waves = zip(*loaded, strict=True)
    features, lengths = features_for(encoder, list(waves))
    device = next(encoder.parameters()).device
    encoded: dict[str, Tensor] = {}
    for num in lengths.unique().tolist():
        alike = torch.nonzero(lengths == num)[:, 0]
        for batch in alike.split(max(1, int(_BATCH_S * FRAMES_PER_S / num))):
            frames, lens = run_encoder(
                encoder, features[batch, :num].to(device), lengths[batch].to(device), by_length=False
            )
            encoded |= {
                ids[i]: item[:n].cpu().contiguous()
                for i, item, n in zip(batch.tolist(), frames, lens.tolist(), strict=True)
            }
            advance(len(batch))
    return encoded
