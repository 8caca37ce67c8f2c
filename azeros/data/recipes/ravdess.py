"""Recipe `ravdess`: RAVDESS, 24 actors, two sentences, eight emotions (spec/CORPORA.md section 4)."""

from __future__ import annotations

import re
from itertools import chain

from azeros.data.recipes import BadRow, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import files_by_stem
from azeros.errors import CorpusError
from azeros.params import PlainCorpus

_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprised",
}
_STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
# modality, channel, emotion, intensity, statement, repetition, actor
_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")


def prepare(corpus: PlainCorpus, seed: int) -> Source:
    """The recordings in the order of their names: spoken ones are utterances, sung ones rejects.

    Raises:
        CorpusError: there is no wav file.
    """
    files, copies = files_by_stem(corpus.path, ".wav")
    if not files:
        raise CorpusError(f"{corpus.path}: no wav file in it; unpack Audio_Speech_Actors_01-24.zip there")

    def read(name: str) -> Row:
        match = _NAME.fullmatch(name)
        if match is None or match.group(3, 4) == ("01", "02"):
            raise BadRow(name, "unknown name", f"{files[name]}: not one of RAVDESS's seven two-digit fields")
        modality, channel, emotion, intensity, statement, _, actor = match.groups()
        if (modality, channel) != ("03", "01"):
            raise BadRow(name, "not speech alone", f"{files[name]}: a song or a video's sound", expected=True)
        return Utterance(
            id=name,
            split="train",
            audio=files[name],
            text=_STATEMENTS[statement],
            language="en",
            speaker=f"Actor_{actor}",
            gender="male" if int(actor) % 2 else "female",
            emotion=_EMOTIONS[emotion],
            custom={"emotion_raw": emotion, "intensity": {"01": "normal", "02": "strong"}[intensity]},
        )

    return Source(len(files) + len(copies), chain(rows_of(files, read), copies))
