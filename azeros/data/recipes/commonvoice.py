"""Recipe `commonvoice`: Mozilla Common Voice, any languages of a release (spec/CORPORA.md section 7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from azeros.data.labels import decade_group_of, gender_of, known
from azeros.data.recipes import BadRow, Reject, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import (
    OFFICIAL_SPLITS,
    SPLITS,
    TableRow,
    find_optional,
    missing_audio,
    read_facts,
    read_lines,
    read_table,
    splits_on_disk,
)
from azeros.errors import CorpusError
from azeros.params import CommonVoiceCorpus

_REQUIRED = ("path", "sentence")  # what else a release has is taken as it comes
_CUSTOM = ("accents", "variant")
# The release says zh-CN, what is trained on it zh; either may be asked for.
_FOLDERS = {"zh": "zh-CN", "zh-CN": "zh"}
_LANGUAGES = {"zh-CN": "zh"}
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)*")


def prepare(corpus: CommonVoiceCorpus, seed: int) -> Source:
    """The rows of train.tsv, dev.tsv and test.tsv of each language in turn.

    Raises:
        CorpusError: a language that is asked for, or every split of it, is missing.
    """
    tables = [
        table for folder, language in _language_folders(corpus) for table in _tables(folder, language, corpus)
    ]
    num_rows = sum(sum(1 for _ in read_lines(path)) - 1 for path, *_ in tables)
    return Source(num_rows, (row for table in tables for row in _rows(*table)))


def _tables(folder: Path, language: str, corpus: CommonVoiceCorpus) -> Iterator[tuple[Path, str, str]]:
    files = {name: folder / f"{name}.tsv" for name in OFFICIAL_SPLITS}
    there = {name: path if path.is_file() else None for name, path in files.items()}
    for official, path in splits_on_disk(folder, corpus.splits, there).items():
        yield path, SPLITS[official], language


def _language_folders(corpus: CommonVoiceCorpus) -> list[tuple[Path, str]]:
    """Folders with what is spoken there, as we call it."""
    release = _release(corpus.path)
    if release is None:
        raise CorpusError(f"{corpus.path}: no folder of a language with clips in it; unpack a release there")
    if (release / "clips").is_dir():
        return [(release, _only_language(release, corpus))]
    there = {path.parent.name: path.parent for path in sorted(release.glob("*/clips"))}
    folders = []
    for language in corpus.languages or there:
        folder = there.get(language) or there.get(_FOLDERS.get(language, ""))
        if folder is None:
            raise CorpusError(f"{release}: no language {language} in it; there are: {', '.join(there)}")
        folders.append((folder, _LANGUAGES.get(folder.name, folder.name)))
    return folders


def _only_language(folder: Path, corpus: CommonVoiceCorpus) -> str:
    """What is spoken in a folder that is a language's own: what the settings say, or else its name."""
    asked = corpus.languages or [folder.resolve().name]
    if len(asked) > 1:
        raise CorpusError(
            f"{folder}: the folder of one language, and languages has {', '.join(asked)}; give one"
        )
    if not corpus.languages and not _LANGUAGE.fullmatch(asked[0]):
        raise CorpusError(f"{folder}: its name is not a language's; give languages, such as [en]")
    return _LANGUAGES.get(asked[0], asked[0])


def _release(root: Path) -> Path | None:
    """The folder of a language itself, or the folder that holds those of languages."""
    if (root / "clips").is_dir():
        return root
    clips = find_optional(root, "*/clips")
    return clips.parent.parent if clips else None


def _rows(path: Path, split: str, language: str) -> Iterator[Row]:
    folder = path.parent
    empty = _empty_clips(folder)

    def read(row: TableRow | Reject) -> Row:
        if isinstance(row, Reject):
            return row
        audio = folder / "clips" / row["path"]
        if not row["path"]:
            raise BadRow(row.where, "malformed row", f"{row.where}: path is empty")
        if row["path"] in empty:
            raise BadRow(audio.stem, "audio empty", f"{audio}: 0 ms long by clip_durations.tsv")
        if not audio.is_file():
            raise missing_audio(audio.stem, audio)
        return Utterance(
            id=audio.stem,
            split=split,
            audio=audio,
            text=row["sentence"],
            language=language,
            speaker=row["client_id"] or None,
            gender=gender_of(row["gender"]),
            age=known(row["age"]),
            age_group=decade_group_of(row["age"]),
            custom={key: row[key] for key in _CUSTOM if row[key]},
        )

    return rows_of(read_table(path, _REQUIRED, delimiter="\t", quoted=False), read)


def _empty_clips(folder: Path) -> set[str]:
    path = folder / "clip_durations.tsv"
    if not path.is_file():
        return set()
    rows = read_facts(path, ["clip", "duration[ms]"], delimiter="\t", quoted=False)
    return {row["clip"] for row in rows if row["duration[ms]"] == "0"}
