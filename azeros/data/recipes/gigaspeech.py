"""Recipe `gigaspeech`: GigaSpeech, English from audiobooks, podcasts and videos (spec/CORPORA.md section 13).

Segments of the long recordings that GigaSpeech.json lists, or the cut recordings of the Hugging Face release.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from azeros.data.labels import known
from azeros.data.recipes import BadRow, Reject, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import TableRow, find, find_optional, missing_audio, read_table
from azeros.data.recipes.segments import Segment, read_segments
from azeros.errors import CorpusError
from azeros.params import GigaSpeechCorpus

_SPLITS = {"DEV": "validation", "TEST": "test"}
# Each holds the ones before it; the Hugging Face release has what each adds.
_NESTED = ("XS", "S", "M", "L", "XL")
_PUNCTUATION = {"<COMMA>": ",", "<PERIOD>": ".", "<QUESTIONMARK>": "?", "<EXCLAMATIONPOINT>": "!"}
_NO_SPEECH = ("<SIL>", "<MUSIC>", "<NOISE>", "<OTHER>")
_TAG = re.compile(r"\s*(<[A-Z]+>)")


def prepare(corpus: GigaSpeechCorpus, seed: int) -> Source:
    """The segments of the subsets that are asked for, in the order of the metadata.

    Raises:
        CorpusError: neither GigaSpeech.json nor data/metadata is there; while iterating: they are damaged.
    """
    path = find_optional(corpus.path, "GigaSpeech.json")
    return Source(None, _from_json(path, corpus) if path else _from_tables(corpus))


def _from_json(path: Path, corpus: GigaSpeechCorpus) -> Iterator[Row]:
    def read(segment: Segment | Reject) -> Row | None:
        if isinstance(segment, Reject):
            return segment
        asked = [name for name in corpus.subsets if f"{{{name}}}" in segment.subsets]
        if not asked:
            return None
        segment.require("sid", "begin_time", "end_time", "text_tn")
        audio = path.parent / str(segment.recording["path"])
        found = _utterance(segment.id, asked[0], audio, segment.fields, corpus)
        return replace(found, start_s=segment.start_s, duration_s=segment.duration_s)

    return rows_of(read_segments(path), read)


def _from_tables(corpus: GigaSpeechCorpus) -> Iterator[Row]:
    folder = find(corpus.path, "data/metadata", "metadata")
    recordings = find(folder.parent, "audio")
    wanted = [name for name in corpus.subsets if name in _SPLITS]
    largest = max((_NESTED.index(name) for name in corpus.subsets if name in _NESTED), default=-1)
    tables = [
        (subset, path)
        for subset in (*_NESTED[: largest + 1], *wanted)
        for path in sorted(folder.glob(f"{subset.lower()}_metadata*/*.csv"))
    ]
    if not tables:
        raise CorpusError(
            f"{folder}: no metadata of {', '.join(corpus.subsets)}; fetch them, or correct subsets"
        )

    def read(item: tuple[str, Path, TableRow | Reject]) -> Row:
        subset, path, row = item
        if isinstance(row, Reject):
            return row
        name = row["sid"] or row["segment_id"]
        fields = {"text_tn": row["text_tn"] or row["text"], "speaker": row["speaker"]}
        if not name:
            raise BadRow(row.where, "malformed row", f"{row.where}: no sid or segment_id")
        return _utterance(name, subset, _chunk(recordings, path) / f"{name}.wav", fields, corpus)

    return chain.from_iterable(
        rows_of(((subset, path, row) for row in read_table(path, ())), read) for subset, path in tables
    )


def _chunk(recordings: Path, table: Path) -> Path:
    """The folder of the recordings that a table is about: xl_metadata_additional/c_metadata.csv, xl_files_additional/c/."""
    return recordings / table.parent.name.replace("metadata", "files") / table.stem.removesuffix("_metadata")


def _utterance(
    name: str, subset: str, audio: Path, fields: Mapping[str, object], corpus: GigaSpeechCorpus
) -> Utterance:
    text = str(fields["text_tn"])
    if any(tag in text for tag in _NO_SPEECH):
        raise BadRow(name, "no speech", f"segment {name}: its text is {text!r}", expected=True)
    if not audio.is_file():
        raise missing_audio(name, audio)
    return Utterance(
        id=name,
        split=_SPLITS.get(subset, "train"),
        audio=audio,
        text=_TAG.sub(lambda tag: _PUNCTUATION.get(tag[1], "") if corpus.punctuation else "", text).strip(),
        language="en",
        speaker=str(fields["speaker"]) if known(fields.get("speaker")) else None,
    )
