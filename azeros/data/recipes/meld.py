"""Recipe `meld`: MELD, utterances of a sitcom with emotions (spec/CORPORA.md section 3).

Reads the clips as they come (mp4) or converted to wav or flac.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from azeros.data.recipes import BadRow, Reject, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import (
    OFFICIAL_SPLITS,
    SPLITS,
    TableRow,
    find_optional,
    is_hidden,
    read_emotion,
    read_table,
    splits_on_disk,
)
from azeros.errors import CorpusError
from azeros.params import SplitCorpus

_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
# Clips of the test split that were cut again supersede those of the same number.
_CLIP = re.compile(r"(final_videos_test)?(dia\d+_utt\d+)\.(wav|flac|mp4)", re.IGNORECASE)
_SUFFIXES = ("wav", "flac", "mp4")
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})
_STAGE_DIRECTION = re.compile(r"\([^)]*(\)|$)|\[[^\]]*(\]|$)")
_GROUP = re.compile(r"all|both|.* and .*|.*/.*", re.IGNORECASE)
# The data do not say: six main characters, and guests who speak often. All others have no gender.
_WOMEN = {"monica", "rachel", "phoebe", "phoebe sr", "janice", "carol", "emily", "mona", "joanna"}
_WOMEN |= {"julie", "elizabeth", "susan"}
_MEN = {"chandler", "joey", "ross", "tag", "doug", "richard", "pete", "mark", "danny", "paul", "eric"}
_MEN |= {"earl", "dr. green"}
_TITLES = {"mr.": "male", "mrs.": "female", "ms.": "female", "miss": "female"}


def prepare(corpus: SplitCorpus, seed: int) -> Source:
    """The rows of the csv files in order, then the clips that none of them names.

    Raises:
        CorpusError: there are no clips, or no csv file, or it is not one.
    """
    clips = _find_clips(corpus.path)
    files = {name: find_optional(corpus.path, f"{name}_sent_emo.csv") for name in OFFICIAL_SPLITS}
    splits = splits_on_disk(corpus.path, corpus.splits, files)
    tables = [(official, row) for official, path in splits.items() for row in _read_csv(path)]
    named = {
        (official, f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}")
        for official, row in tables
        if isinstance(row, TableRow)
    }
    unnamed = [
        Reject(
            f"{official}_{name}", "not in the metadata", f"{path}: no row of {official}_sent_emo.csv names it"
        )
        for (official, name), path in sorted(clips.items())
        if (official, name) not in named and official in splits
    ]

    def read(item: tuple[str, TableRow | Reject]) -> Row:
        official, row = item
        return row if isinstance(row, Reject) else _utterance(official, row, clips)

    return Source(len(tables) + len(unnamed), chain(rows_of(tables, read), unnamed))


def _utterance(official: str, row: TableRow, clips: dict[tuple[str, str], Path]) -> Utterance:
    name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
    # The numbers repeat in every split.
    id = f"{official}_{name}"
    if (official, name) not in clips:
        raise BadRow(id, "audio missing", f"{row.where}: no clip {name} in a folder of the {official} split")
    speaker = None if _GROUP.fullmatch(row["Speaker"]) else row["Speaker"] or None
    return Utterance(
        id=id,
        split=SPLITS[official],
        audio=clips[official, name],
        text=" ".join(_STAGE_DIRECTION.sub(" ", row["Utterance"].translate(_QUOTES)).split()),
        language="en",
        speaker=speaker,
        gender=_gender(speaker) if speaker else None,
        emotion=read_emotion(id, row.where, row["Emotion"]),
        custom={"emotion_raw": row["Emotion"]},
    )


def _gender(speaker: str) -> str | None:
    name = speaker.lower()
    if name in _WOMEN:
        return "female"
    return "male" if name in _MEN else _TITLES.get(name.partition(" ")[0])


def _read_csv(path: Path) -> Iterator[TableRow | Reject]:
    """The rows of a csv file in UTF-8 or, as older copies have it, in cp1252, whole or in places."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    text = re.sub("[\x80-\x9f]", lambda match: match[0].encode("latin-1").decode("cp1252", "replace"), text)
    return read_table(path, _COLUMNS, text=text)


def _find_clips(root: Path) -> dict[tuple[str, str], Path]:
    """The best clip of each split and name, wherever a folder of that split holds it."""
    found = []
    for path in root.rglob("*dia*_utt*"):
        match = _CLIP.fullmatch(path.name)
        official = next(
            (
                official
                for part in reversed(path.relative_to(root).parts[:-1])
                for official in OFFICIAL_SPLITS
                if official in part.lower()
            ),
            None,
        )
        if match and official and not is_hidden(path):
            again, name, suffix = match.groups()
            rank = (again is None, _SUFFIXES.index(suffix.lower()), path)
            found.append((rank, (official, name.lower()), path))
    if not found:
        raise CorpusError(
            f"{root}: no clips dia0_utt0.wav or .mp4 in folders of the splits; unpack MELD.Raw there"
        )
    return {key: path for _, key, path in sorted(found, reverse=True)}
