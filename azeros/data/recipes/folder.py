"""Recipe `folder`: your own recordings, laid out as Hugging Face's AudioFolder.

    recordings/metadata.csv      file_name,text,speaker        (or metadata.jsonl: one JSON object a line)
    recordings/a.wav             a.wav,hello there,ann
    recordings/more/b.flac       more/b.flac,good morning,ben

Columns: file_name and text, and any of language, speaker, gender, age, age_group, emotion and split. Without
a split column all rows are train; or give each split a folder of its own (recordings/train/metadata.csv ...).
"""

from __future__ import annotations

import csv
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from azeros.data.labels import AGE_GROUPS, GENDERS, age_group_of, gender_of, known
from azeros.data.recipes import BadRow, Reject, Source, Utterance, rows_of
from azeros.data.recipes.layout import SPLITS, is_hidden, read_emotion
from azeros.errors import CorpusError
from azeros.params import FolderCorpus

logger = logging.getLogger(__name__)

_METADATA = ("metadata.csv", "metadata.jsonl")
_REQUIRED = ("file_name", "text")
_COLUMNS = (*_REQUIRED, "language", "speaker", "gender", "age", "age_group", "emotion", "split")
_OTHER_GENDERS = {"other", "nonbinary", "non-binary"}  # said, and none of those that the paper's metadata has
_AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".sph", ".aiff", ".aac", ".wma"}


@dataclass(frozen=True)
class _Line:
    """One row of a metadata file; `fields` is None where it could not be read, for the reason in `fault`."""

    where: str  # file and row
    folder: Path
    split: str
    fields: Mapping[str, object] | None
    fault: str = ""

    @property
    def name(self) -> str:
        """What the row calls its recording, or else where it stands."""
        return str((self.fields or {}).get("file_name") or "").strip() or self.where


def prepare(corpus: FolderCorpus, seed: int) -> Source:
    """The rows of the metadata files in order, then the recordings that none of them names.

    Raises:
        CorpusError: no folder, no metadata, two metadata files in one folder, or a column missing.
    """
    if not corpus.path.is_dir():
        raise CorpusError(f"{corpus.path}: no such folder; correct the corpus's path in params.yaml")
    lines = [line for path, split in _find_metadata(corpus.path) for line in _read(path, split)]
    unknown = {key for line in lines for key in line.fields or {}}.difference(_COLUMNS)
    if unknown:
        logger.warning(
            "%s: %s not used; the columns are %s",
            corpus.path,
            ", ".join(map(repr, sorted(unknown))),
            ", ".join(_COLUMNS),
        )
    named = {_audio_path(line) for line in lines}
    num_named_alike = Counter(path.with_suffix("") for path in named if path.name)
    unnamed = [_unnamed(path, corpus.path) for path in _recordings(corpus.path) if path not in named]

    def read(line: _Line) -> Utterance:
        return _utterance(line, corpus, num_named_alike)

    return Source(len(lines) + len(unnamed), chain(rows_of(lines, read), unnamed))


def _unnamed(path: Path, root: Path) -> Reject:
    name = path.relative_to(os.path.normpath(root)).as_posix()
    return Reject(name, "not in the metadata", f"{path}: no row names it; add one, or take the file away")


def _find_metadata(root: Path) -> list[tuple[Path, str]]:
    """The metadata files and the split that their rows are of unless they say otherwise."""
    found = [(path, "train") for path in _metadata_in(root)]
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name in SPLITS):
        found += [(path, SPLITS[folder.name]) for path in _metadata_in(folder)]
    if not found:
        raise CorpusError(
            f"{root}: no metadata.csv or metadata.jsonl in it; write one with the columns file_name and text"
        )
    return found


def _metadata_in(folder: Path) -> list[Path]:
    found = [folder / name for name in _METADATA if (folder / name).is_file()]
    if len(found) > 1:
        raise CorpusError(f"{folder}: has both {' and '.join(_METADATA)}; keep one of them")
    return found


def _read(path: Path, split: str) -> Iterator[_Line]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = _csv_rows(path, stream) if path.suffix == ".csv" else _json_rows(stream)
            for number, (fields, fault) in rows:
                yield _Line(
                    f"{path.relative_to(path.parent.parent)}:{number}", path.parent, split, fields, fault
                )
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error


_Rows = Iterator[tuple[int, tuple[Mapping[str, object] | None, str]]]


def _csv_rows(path: Path, stream: Iterator[str]) -> _Rows:
    reader = csv.DictReader(stream, skipinitialspace=True, strict=True)
    columns = reader.fieldnames or []
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise CorpusError(
            f"{path}: no column {' and '.join(missing)}; its first line names {', '.join(columns) or 'none'}"
        )
    for fields in _checked(path, reader):
        ragged = None in fields or None in fields.values()
        fault = (
            f"not {len(columns)} fields as in the first line; quote text that holds commas" if ragged else ""
        )
        yield reader.line_num, (None if ragged else fields, fault)


def _checked(path: Path, reader: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise CorpusError(
            f"{path}: not CSV after line {reader.line_num} ({error}); mend the quotes there"
        ) from error


def _json_rows(stream: Iterator[str]) -> _Rows:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            yield number, (None, f"not JSON: {error}")
            continue
        yield number, ((fields, "") if isinstance(fields, dict) else (None, "not a JSON object"))


def _utterance(line: _Line, corpus: FolderCorpus, num_named_alike: Counter[Path]) -> Utterance:
    if line.fields is None:
        raise BadRow(line.name, "malformed row", f"{line.where}: {line.fault}")
    values = {key: _text(line, key) for key in (*_REQUIRED, "language", "speaker", "emotion")}
    if not values["file_name"]:
        raise BadRow(
            line.name, "no file_name", f"{line.where}: file_name is empty; write the path of the recording"
        )
    audio = _audio_path(line)
    return Utterance(
        id=_id(audio, corpus.path, with_suffix=num_named_alike[audio.with_suffix("")] > 1),
        split=_split(line),
        audio=audio,
        text=values["text"],
        language=known(values["language"]) or corpus.language,
        speaker=values["speaker"] or None,
        gender=_gender(line),
        age=_age(line),
        age_group=_age_group(line),
        emotion=read_emotion(line.name, line.where, values["emotion"]),
    )


def _text(line: _Line, key: str) -> str:
    """The text in a field, stripped; empty where the field is absent or null."""
    value = (line.fields or {}).get(key)
    if value is None:
        return ""
    if not isinstance(value, str) and key in _REQUIRED:
        raise BadRow(line.name, f"{key} is not text", f"{line.where}: {key} is {value!r}; write it in quotes")
    return str(value).strip()


def _audio_path(line: _Line) -> Path:
    """Where the row's recording should be, written as `_recordings` writes it."""
    return Path(os.path.normpath(line.folder / str((line.fields or {}).get("file_name", "")).strip()))


def _recordings(root: Path) -> list[Path]:
    return sorted(
        Path(os.path.normpath(path))
        for path in root.rglob("*")
        if path.suffix.lower() in _AUDIO_SUFFIXES and not is_hidden(path)
    )


def _id(audio: Path, root: Path, with_suffix: bool) -> str:
    """The path under the corpus without slashes, which tar shards cannot hold, and mostly without its suffix."""
    root = Path(os.path.normpath(root))
    inside = audio.relative_to(root) if audio.is_relative_to(root) else audio
    stem = "-".join(part for part in inside.with_suffix("").parts if part != inside.anchor)
    return f"{stem}-{audio.suffix.removeprefix('.')}" if with_suffix else stem


def _split(line: _Line) -> str:
    word = _text(line, "split").lower()
    if not word:
        return line.split
    if word not in SPLITS:
        raise BadRow(
            line.name, "unknown split", f"{line.where}: split is {word!r}; write train, validation or test"
        )
    return SPLITS[word]


def _gender(line: _Line) -> str | None:
    word = known(_text(line, "gender"))
    if word is not None and gender_of(word) is None and word.lower() not in _OTHER_GENDERS:
        raise BadRow(
            line.name,
            "unknown gender",
            f"{line.where}: gender is {word!r}; write {', '.join(GENDERS)} or unknown",
        )
    return gender_of(word)


def _age(line: _Line) -> str | None:
    word = known(_text(line, "age"))
    with suppress(TypeError, ValueError, OverflowError):
        word = str(int(float(word)))  # type: ignore[arg-type]
    if word is not None and age_group_of(word) is None:
        raise BadRow(
            line.name, "bad age", f"{line.where}: age is {word!r}; write years, or use the column age_group"
        )
    return word


def _age_group(line: _Line) -> str | None:
    word = known(_text(line, "age_group"))
    if word is not None and word not in AGE_GROUPS:
        groups = ", ".join(AGE_GROUPS)
        raise BadRow(line.name, "unknown age_group", f"{line.where}: age_group is {word!r}; write {groups}")
    return word
