"""Recipe `cuts`: lhotse manifests made elsewhere, their paths corrected, checked as any corpus is.

cuts_train.jsonl.gz, cuts_validation.jsonl.gz and cuts_test.jsonl.gz are the splits; any other manifest is train.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from lhotse import AudioSource
from lhotse.cut import Cut
from lhotse.cut.data import DataCut

from azeros.data.audio import TOLERANCE_S, Part, span_of
from azeros.data.labels import gender_of, known
from azeros.data.manifests import read_cuts
from azeros.data.recipes import BadRow, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import SPLITS, read_emotion
from azeros.errors import CorpusError
from azeros.params import CutsCorpus

_LANGUAGES = {"chinese": "zh", "english": "en"}  # as lhotse's recipes have them
_OURS = ("age", "age_group", "emotion")


def prepare(corpus: CutsCorpus, seed: int) -> Source:
    """The cuts of each manifest in turn, read as they are asked for.

    Raises:
        CorpusError: no manifest in the folder; while iterating, ManifestError: a manifest is damaged.
    """
    files = sorted(corpus.path.glob("*.jsonl.gz")) if corpus.path.is_dir() else [corpus.path]
    if not files:
        raise CorpusError(f"{corpus.path}: no manifest *.jsonl.gz in it; correct the path")
    return Source(None, chain.from_iterable(_rows(file, corpus.replace_prefix) for file in files))


def _rows(file: Path, prefixes: Mapping[str, str]) -> Iterator[Row]:
    split = SPLITS.get(file.name.removesuffix(".jsonl.gz").rpartition("_")[2], "train")

    def read(cut: Cut) -> Utterance:
        source = source_of(cut)
        if source.type != "file":
            raise BadRow(
                cut.id, "malformed row", f"cut {cut.id}: its sound is of type {source.type}, not a file"
            )
        return utterance_of(cut, split, Path(_replace(source.source, prefixes)))

    return rows_of(read_cuts(file), read)


def source_of(cut: Cut) -> AudioSource:
    """The one source of the sound of a cut; BadRow unless one supervision says what is in all of that sound."""
    if not isinstance(cut, DataCut):  # what lhotse pads or mixes
        raise BadRow(
            cut.id, "malformed row", f"cut {cut.id}: a {type(cut).__name__}; write cuts of one recording each"
        )
    if len(cut.supervisions) != 1 or cut.recording is None or len(cut.recording.sources) != 1:
        raise BadRow(cut.id, "malformed row", f"cut {cut.id}: not one supervision of one file")
    taken, there = cut.channel, cut.recording.channel_ids
    # All channels are averaged when the cut is read, and all of it is paired with the text.
    if set(there) - {*(taken if isinstance(taken, list) else [taken])}:
        raise BadRow(
            cut.id,
            "some channels only",
            f"cut {cut.id}: it takes channel {taken} of {there}; give each channel a file",
        )
    said = cut.supervisions[0]
    if abs(said.start) > TOLERANCE_S or abs(said.end - cut.duration) > TOLERANCE_S:
        raise BadRow(
            cut.id,
            "supervision of a part",
            f"cut {cut.id}: its supervision is {said.start:.2f} to {said.end:.2f} s of {cut.duration:.2f} s; "
            "trim the cut to it",
        )
    return cut.recording.sources[0]


def utterance_of(cut: Cut, split: str, audio: Path | Part) -> Utterance:
    """A cut that has passed `source_of`, its labels in our words."""
    said = cut.supervisions[0]
    start_s, duration_s = span_of(cut)
    custom = {**(cut.custom or {}), **(said.custom or {})}
    about = {key: known(custom.pop(key, None)) for key in _OURS}
    return Utterance(
        id=cut.id,
        split=split,
        audio=audio,
        text=said.text,
        language=_LANGUAGES.get((said.language or "").lower(), said.language),
        speaker=said.speaker,
        gender=gender_of(said.gender),
        age=about["age"],
        age_group=about["age_group"],
        emotion=read_emotion(cut.id, f"cut {cut.id}", about["emotion"]),
        start_s=start_s,
        duration_s=duration_s,
        custom=custom,
    )


def _replace(path: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if path.startswith(old):
            return new + path.removeprefix(old)
    return path
