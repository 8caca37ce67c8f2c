"""Recipe `crema_d`: CREMA-D, twelve sentences acted by 91 actors in six emotions (spec/CORPORA.md section 2)."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

from azeros.data.labels import emotion_of, gender_of
from azeros.data.recipes import BadRow, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import TableRow, files_by_stem, find, find_optional, missing_audio, read_facts
from azeros.params import CremaDCorpus

_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
_EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_NAME = re.compile(rf"(\d{{4}})_({'|'.join(_SENTENCES)})_({'|'.join(_EMOTIONS)})_(LO|MD|HI|XX)")
_VOTES = {emotion[0].upper(): emotion for emotion in _EMOTIONS.values()}
_VOTE_COLUMNS = {"voice": "VoiceVote", "face": "FaceVote", "multimodal": "MultiModalVote"}


def prepare(corpus: CremaDCorpus, seed: int) -> Source:
    """The recordings in the order of their names, then the names without a recording.

    Raises:
        CorpusError: AudioWAV, the demographics or the votes that the options ask for are missing.
    """
    folder = find(corpus.path, "AudioWAV")
    demographics = find(corpus.path, "VideoDemographics.csv")
    actors = {row["ActorID"]: row for row in read_facts(demographics, ["ActorID", "Age", "Sex"])}
    votes = _read_votes(corpus)
    files, copies = files_by_stem(folder, ".wav")
    missing = [name for name in _listed(corpus.path) if name not in files]

    def read(name: str) -> Row:
        if name not in files:
            raise missing_audio(name, folder / f"{name}.wav")
        match = _NAME.fullmatch(name)
        if match is None:
            raise BadRow(name, "unknown name", f"{files[name]}: not named actor_sentence_emotion_level.wav")
        actor, sentence, emotion, _ = match.groups()
        label = _EMOTIONS[emotion] if votes is None else votes.get(name, "")
        about = actors.get(actor, TableRow("", {}))
        return Utterance(
            id=name,
            split="train",
            audio=files[name],
            text=_SENTENCES[sentence],
            language="en",
            speaker=actor,
            gender=gender_of(about["Sex"]),
            age=about["Age"] or None,
            # A tie (`N:S`) is no vote for either.
            emotion=emotion_of(label if votes is None else _VOTES.get(label)),
            custom={"emotion_raw": emotion if votes is None else label},
        )

    names = [*files, *missing]
    return Source(len(names) + len(copies), chain(rows_of(names, read), copies))


def _listed(root: Path) -> list[str]:
    """The names that the corpus lists, if the list is there."""
    path = find_optional(root, "SentenceFilenames.csv")
    return [row["Filename"] for row in read_facts(path, ["Filename"])] if path else []


def _read_votes(corpus: CremaDCorpus) -> dict[str, str] | None:
    """What listeners voted for each recording; None where the acted emotion counts."""
    if corpus.emotion == "intended":
        return None
    column = _VOTE_COLUMNS[corpus.emotion]
    path = find(corpus.path, "processedResults/summaryTable.csv", "summaryTable.csv")
    return {row["FileName"]: row[column] for row in read_facts(path, ["FileName", column])}
