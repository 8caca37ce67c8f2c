"""Recipe `dailytalk`: DailyTalk, two speakers reading dialogues (spec/CORPORA.md section 6); ids as lhotse's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from azeros.data.recipes import BadRow, Reject, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import (
    find,
    find_optional,
    is_hidden,
    missing_audio,
    read_emotion,
    read_lines,
)
from azeros.errors import CorpusError
from azeros.params import DailyTalkCorpus

_GENDERS = {0: "male", 1: "female"}
_KEPT = ("turn", "topic", "act")
# An utterance without an emotion of its own counts as neutral.
_NEUTRAL = {"no emotion", "none"}


def prepare(corpus: DailyTalkCorpus, seed: int) -> Source:
    """The utterances of the dialogues in order, then the recordings that the metadata does not name.

    All are train, but for those in the corpus's own preprocessed_data/DailyTalk/val_frame.txt, where that is there.

    Raises:
        CorpusError: metadata.json or the folder data is missing, or is not what it should be.
    """
    path = find(corpus.path, "metadata.json")
    folder = find(path.parent, "data")
    utterances = [
        (dialog, number, entry)
        for dialog, entries in _read_metadata(path).items()
        for number, entry in entries.items()
    ]
    validation = _validation_names(path.parent)
    named: set[str] = set()

    def read(item: tuple[str, str, Any]) -> Row:
        dialog, number, entry = item
        where = f"{path}: dialogue {dialog}, utterance {number}"
        if not isinstance(entry, dict) or entry.get("speaker") not in (0, 1) or "text" not in entry:
            raise BadRow(
                f"dailytalk_{number}_d{dialog}", "malformed row", f"{where}: no speaker 0 or 1, or no text"
            )
        name = f"{number}_{entry['speaker']}_d{dialog}"
        id = f"dailytalk_{name}"
        audio = folder / dialog / f"{name}.wav"
        named.add(name)
        if not audio.is_file():
            raise missing_audio(id, audio)
        return Utterance(
            id=id,
            split="validation" if name in validation else "train",
            audio=audio,
            text=str(entry["text"]).strip(),
            language="en",
            speaker=f"dailytalk_spk{entry['speaker']}",
            gender=_GENDERS[entry["speaker"]] if corpus.assume_gender else None,
            emotion=_emotion(id, where, str(entry.get("emotion") or "")),
            custom={
                "emotion_raw": entry.get("emotion"),
                **{key: entry[key] for key in _KEPT if key in entry},
            },
        )

    rows = chain(rows_of(utterances, read), _unnamed(folder, named))
    return Source(None, rows)


def _emotion(id: str, where: str, raw: str) -> str | None:
    return "neutral" if raw.strip().lower() in _NEUTRAL else read_emotion(id, where, raw)


def _unnamed(folder: Path, named: set[str]) -> Iterator[Reject]:
    """The recordings that are not among `named`, which the rows before have filled."""
    for path in sorted(folder.rglob("*.wav")):
        if path.stem not in named and not is_hidden(path):
            yield Reject(
                f"dailytalk_{path.stem}", "not in the metadata", f"{path}: metadata.json does not name it"
            )


def _read_metadata(path: Path) -> dict[str, dict[str, Any]]:
    try:
        dialogs = json.loads("".join(read_lines(path)))
    except ValueError as error:
        raise CorpusError(f"{path}: not JSON ({error}); unpack the corpus again") from error
    if not isinstance(dialogs, dict) or not all(isinstance(entries, dict) for entries in dialogs.values()):
        raise CorpusError(f"{path}: not dialogues of utterances; unpack the corpus again")
    return dialogs


def _validation_names(root: Path) -> set[str]:
    path = find_optional(root, "preprocessed_data/DailyTalk/val_frame.txt", "val_frame.txt")
    return {line.partition("|")[0] for line in read_lines(path)} if path else set()
