"""Recipe `shar`: lhotse Shar, in a folder or in object storage, as `azeros data prepare --shar` writes it.

    corpus/train/cuts.000000.jsonl.gz    corpus/train/recording.000000.tar
    corpus/train/cuts.000001.jsonl.gz    corpus/train/recording.000001.tar

Shards in a folder named as a split are of it, all others are train. The path is a folder, or a URL that fsspec knows:
https and http, s3, gs, and whatever else has a package for it. Each shard is read once, from its beginning to its end;
the sound stays in it, and the manifest names the bytes, so that training draws from shards in any order.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest

import fsspec
from fsspec.core import url_to_fs
from lhotse.cut import Cut

from azeros.data.audio import Part
from azeros.data.manifests import read_cuts
from azeros.data.recipes import BadRow, Row, Source, Utterance, rows_of
from azeros.data.recipes.cuts import source_of, utterance_of
from azeros.data.recipes.layout import SPLITS
from azeros.errors import AzerosError, CorpusError
from azeros.params import SharCorpus

_CUTS = re.compile(r"(.*/)cuts([^/]*)\.jsonl(\.gz)?")
_METADATA = (".json", ".nometa")  # what lhotse writes behind each recording


def prepare(corpus: SharCorpus, seed: int) -> Source:
    """The cuts of each shard in turn.

    Raises:
        CorpusError: no shards there; while iterating, a shard is missing or damaged.
    """
    files = _files(corpus.path)
    shards = [found for file in files if (found := _CUTS.fullmatch(file))]
    if not shards:
        raise CorpusError(f"{corpus.path}: no shards cuts.*.jsonl.gz in it; correct the path")
    if missing := sorted(set(map(_sound, shards)) - set(files)):
        raise CorpusError(f"{missing[0]}: no such shard, but one of its cuts; fetch or export it again")
    return Source(None, chain.from_iterable(map(_rows, shards)))


def _files(place: str) -> list[str]:
    try:
        storage, root = url_to_fs(place)
        names = sorted(storage.find(root))
    except Exception as error:  # each kind of storage has its own
        raise CorpusError(f"{place}: {error or error!r}; correct the path, or see to the storage") from error
    return [storage.unstrip_protocol(name) for name in names] if "://" in place else names


def _sound(shard: re.Match[str]) -> str:
    return f"{shard[1]}recording{shard[2]}.tar"


def _rows(shard: re.Match[str]) -> Iterator[Row]:
    split = SPLITS.get(shard[1].split("/")[-2], "train")

    def read(item: tuple[Cut, Part | None]) -> Utterance:
        cut, audio = item
        if audio is None:
            raise BadRow(cut.id, "no recording", f"{_sound(shard)}: no sound of cut {cut.id}")
        source_of(cut)
        return utterance_of(cut, split, audio)

    return rows_of(_items(shard[0], _sound(shard)), read)


def _items(cuts: str, sound: str) -> Iterator[tuple[Cut, Part | None]]:
    """Each cut of a shard with its sound."""
    try:
        for cut, (id, part) in zip_longest(read_cuts(cuts), _parts(sound), fillvalue=(None, None)):
            if not isinstance(cut, Cut) or cut.id != id:
                raise CorpusError(f"{sound}: not the sound of the cuts in {cuts}; export the shards again")
            yield cut, part
    except AzerosError:
        raise
    except Exception as error:  # each kind of storage has its own
        raise CorpusError(f"{sound}: unreadable ({error or error!r}); fetch or export it again") from error


def _parts(sound: str) -> Iterable[tuple[str, Part | None]]:
    """The id of each cut in a tar shard, and its sound where it has any."""
    with fsspec.open(sound, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            id, dot, suffix = member.name.rpartition(".")
            if dot + suffix in _METADATA:
                continue
            file = None if suffix == "nodata" else tar.extractfile(member)
            yield id, Part(sound, member.offset_data, file.read()) if file else None
