"""Recipe `tess`: TESS, two actresses, 200 words in a carrier sentence, seven emotions (spec/CORPORA.md section 5)."""

from __future__ import annotations

import re
from itertools import chain

from azeros.data.labels import emotion_of
from azeros.data.recipes import BadRow, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import files_by_stem
from azeros.errors import CorpusError
from azeros.params import PlainCorpus

# OA is how the corpus itself misspells OAF once.
_NAME = re.compile(r"(OAF|OA|YAF)_([^_]+)_(angry|disgust|fear|happy|neutral|sad|ps)", re.IGNORECASE)
_AGES = {"OAF": "64", "YAF": "26"}


def prepare(corpus: PlainCorpus, seed: int) -> Source:
    """The recordings in the order of their names, in whatever folders they lie.

    Raises:
        CorpusError: there is no wav file.
    """
    files, copies = files_by_stem(corpus.path, ".wav")
    if not files:
        raise CorpusError(f"{corpus.path}: no wav file in it; give the folder that TESS was unpacked into")

    def read(name: str) -> Row:
        match = _NAME.fullmatch(name)
        if match is None:
            raise BadRow(
                name, "unknown name", f"{files[name]}: not named OAF_word_emotion or YAF_word_emotion"
            )
        speaker, word, emotion = match.groups()
        speaker = {"OA": "OAF"}.get(speaker.upper(), speaker.upper())
        return Utterance(
            id=name,
            split="train",
            audio=files[name],
            text=f"Say the word {word}",
            language="en",
            speaker=speaker,
            gender="female",
            age=_AGES[speaker],
            emotion=emotion_of(emotion),
            custom={"emotion_raw": emotion},
        )

    return Source(len(files) + len(copies), chain(rows_of(files, read), copies))
