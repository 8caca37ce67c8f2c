"""Recipe `cs_dialogue`: CS-Dialogue, Mandarin and English mixed in conversation (spec/CORPORA.md section 10)."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from azeros.data.labels import gender_of, known
from azeros.data.recipes import BadRow, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import (
    OFFICIAL_SPLITS,
    SPLITS,
    TableRow,
    find,
    find_optional,
    read_facts,
    read_lines,
    splits_on_disk,
)
from azeros.params import SplitCorpus

_TAG = re.compile(r"<(CN|EN|MIX)>")
_MARKUP = re.compile(r"<[^<>]*>")
# Switched utterances count as Chinese, as for AZeroS; custom.language_tag tells them apart.
_LANGUAGES = {"CN": "zh", "EN": "en", "MIX": "zh"}


def prepare(corpus: SplitCorpus, seed: int) -> Source:
    """The utterances that text or wav.scp of a split names, in order.

    Raises:
        CorpusError: the index or the recordings are missing.
    """
    index = find(corpus.path, "index/short_wav", "data/index/short_wav")
    folders = {name: find_optional(index, name) for name in OFFICIAL_SPLITS}
    # Unpacking puts the folder short_wav into data/short_wav as often as not.
    recordings = find(corpus.path, "WAVE/C0", "data/short_wav/short_wav/WAVE/C0").parent.parent
    splits = splits_on_disk(index, corpus.splits, folders)
    about = _read_information(find_optional(index.parent, "total_information/Information_Index.txt"))
    items = []
    for official, folder in splits.items():
        texts, paths = _read_index(folder / "text"), _read_index(folder / "wav.scp")
        items += [
            (official, name, texts.get(name), paths.get(name)) for name in dict.fromkeys([*texts, *paths])
        ]

    def read(item: tuple[str, str, str | None, str | None]) -> Row:
        official, name, text, place = item
        if text is None:
            raise BadRow(
                name, "no text", f"{index / official / 'text'}: no line for {name}, which wav.scp names"
            )
        if place is None:
            raise BadRow(name, "audio missing", f"{index / official / 'wav.scp'}: no line for {name}")
        audio = _audio(name, place, index.parent.parent, recordings)
        facts = about.get(name, TableRow("", {}))
        tag = _TAG.search(text) or _TAG.search(_script(name, recordings)) or _TAG.search(facts["TAG"])
        return Utterance(
            id=name,
            split=SPLITS[official],
            audio=audio,
            text=" ".join(_MARKUP.sub("", text).split()),
            language=_LANGUAGES[tag[1]] if tag else "zh",
            speaker=name.partition("_S")[0],
            gender=gender_of(facts["Gender"]),
            age=known(facts["Age"]),
            custom={"language_tag": tag[1]} if tag else {},
        )

    return Source(len(items), rows_of(items, read))


def _audio(name: str, place: str, root: Path, recordings: Path) -> Path:
    """The recording where wav.scp has it, or where the archives put it when they are unpacked one folder deeper."""
    dialog = name.rpartition("_")[0]
    candidates = [root / place, recordings / "WAVE/C0" / dialog / f"{name}.wav"]
    for path in candidates:
        if path.is_file():
            return path
    raise BadRow(name, "audio missing", f"{candidates[0]}: named in wav.scp, but there is no such file")


def _read_index(path: Path) -> dict[str, str]:
    """What follows each id in a Kaldi-style file."""
    pairs = (line.strip().split(maxsplit=1) for line in read_lines(path))
    return {pair[0]: pair[1] if len(pair) > 1 else "" for pair in pairs if pair}


def _script(name: str, recordings: Path) -> str:
    """The utterance's line in the script of its dialogue, where language tags stand if the index has none."""
    path = recordings / "SCRIPT" / f"{name.rpartition('_')[0]}.txt"
    return next((line for line in _script_lines(path) if line.split("\t")[0].strip() == name), "")


@lru_cache(maxsize=1)
def _script_lines(path: Path) -> list[str]:
    return list(read_lines(path)) if path.is_file() else []


def _read_information(path: Path | None) -> dict[str, TableRow]:
    """Speaker and tag of each utterance, by its id."""
    rows = read_facts(path, ["WAVE ID"], delimiter="\t", quoted=False) if path else iter(())
    return {row["WAVE ID"].removesuffix(".wav"): row for row in rows}
