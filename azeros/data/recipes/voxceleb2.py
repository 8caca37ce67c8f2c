"""Recipe `voxceleb2`: VoxCeleb2, celebrities in interviews, without transcripts (spec/CORPORA.md section 11).

Reads the m4a files as they come, or converted to wav.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from azeros.data.labels import gender_of
from azeros.data.recipes import Row, Source, Utterance
from azeros.data.recipes.layout import (
    find,
    find_optional,
    is_hidden,
    read_facts,
    read_lines,
    splits_on_disk,
)
from azeros.params import SplitCorpus

# The split of speakers that the corpus calls dev is the one to train on.
_TRAINED = {"train": "dev", "test": "test"}
_CONTAINERS = ("wav", "aac")
_SUFFIXES = (".wav", ".flac", ".m4a")


def prepare(corpus: SplitCorpus, seed: int) -> Source:
    """The clips of each speaker and video in the order of their names.

    Raises:
        CorpusError: vox2_meta.csv or the clips are missing.
    """
    meta = find(corpus.path, "vox2_meta.csv")
    genders = _read_genders(meta)
    folders = {
        split: find_optional(corpus.path, *(f"{official}/{name}" for name in _CONTAINERS))
        for split, official in _TRAINED.items()
    }
    return Source(None, _rows(splits_on_disk(corpus.path, corpus.splits, folders), genders))


def _rows(folders: dict[str, Path], genders: dict[str, str | None]) -> Iterator[Row]:
    for split, folder in folders.items():
        for speaker in sorted(folder.iterdir()):
            # One speaker at a time: there are a million clips.
            for path in sorted(speaker.glob("*/*")):
                if path.suffix.lower() in _SUFFIXES and not is_hidden(path):
                    yield Utterance(
                        # The clips of every video are numbered from one.
                        id=f"{speaker.name}-{path.parent.name}-{path.stem}",
                        split=split,
                        audio=path,
                        text=None,
                        language=None,
                        speaker=speaker.name,
                        gender=genders.get(speaker.name),
                        custom={"split": _TRAINED[split]},
                    )


def _read_genders(path: Path) -> dict[str, str | None]:
    """Gender by speaker; columns are parted by commas or, in copies of the file, by tabs."""
    header = next(read_lines(path), "")
    rows = read_facts(path, ["VoxCeleb2 ID", "Gender"], delimiter="\t" if "\t" in header else ",")
    return {row["VoxCeleb2 ID"]: gender_of(row["Gender"]) for row in rows}
