"""Recipe `aishell1`: AISHELL-1, read Mandarin (spec/CORPORA.md section 8); texts as lhotse's recipe has them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from azeros.data.labels import gender_of
from azeros.data.recipes import BadRow, Reject, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import (
    OFFICIAL_SPLITS,
    SPLITS,
    find,
    find_optional,
    is_hidden,
    read_lines,
    splits_on_disk,
)
from azeros.errors import CorpusError
from azeros.params import SplitCorpus


def prepare(corpus: SplitCorpus, seed: int) -> Source:
    """The recordings of each split in the order of their names, then the transcripts without a recording.

    Raises:
        CorpusError: the transcripts are missing, or the archives in wav/ are not unpacked.
    """
    transcripts = _read_transcripts(find(corpus.path, "transcript/aishell_transcript_v0.8.txt"))
    genders = _read_genders(find_optional(corpus.path, "resource_aishell/speaker.info", "speaker.info"))
    folder = find(corpus.path, "data_aishell/wav", "wav")
    folders = {name: find_optional(folder, name) for name in OFFICIAL_SPLITS}
    splits = splits_on_disk(folder, corpus.splits, folders)
    recordings = [
        (official, path)
        for official, split in folders.items()
        if split
        for path in sorted(split.glob("*/*.wav"))
        if not is_hidden(path)
    ]
    wanted = [(official, path) for official, path in recordings if official in splits]
    if not wanted:
        raise CorpusError(f"{folder}: no recordings; unpack each S*.tar.gz there")
    recorded = {path.stem for _, path in recordings}
    unheard = [
        Reject(name, "audio missing", f"{folder}: a transcript, but no {name}.wav; unpack every S*.tar.gz")
        for name in transcripts
        if name not in recorded
    ]

    def read(item: tuple[str, Path]) -> Row:
        official, path = item
        if path.stem not in transcripts:
            raise BadRow(path.stem, "no text", f"{path}: no transcript, as of 325 recordings of the corpus")
        speaker = path.parent.name
        return Utterance(
            id=path.stem,
            split=SPLITS[official],
            audio=path,
            text=transcripts[path.stem],
            language="zh",
            speaker=speaker,
            gender=genders.get(speaker.removeprefix("S")),
        )

    return Source(len(wanted) + len(unheard), chain(rows_of(wanted, read), unheard))


def _read_transcripts(path: Path) -> dict[str, str]:
    """Text by id, without the blanks between words, letters as lhotse writes them."""
    from lhotse.recipes.aishell import text_normalize

    lines = (line.split() for line in read_lines(path))
    return {words[0]: text_normalize("".join(words[1:])) for words in lines if words}


def _read_genders(path: Path | None) -> dict[str, str | None]:
    """Gender by the speaker's number, with which or with S and which a line begins."""
    lines = (line.split() for line in read_lines(path)) if path else ()
    return {words[0].removeprefix("S"): gender_of(words[1]) for words in lines if len(words) > 1}
