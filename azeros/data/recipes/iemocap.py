"""Recipe `iemocap`: IEMOCAP, ten actors in dyadic sessions (spec/CORPORA.md section 1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from azeros.data.recipes import BadRow, Reject, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import find, is_hidden, missing_audio, read_emotion, read_lines
from azeros.errors import CorpusError
from azeros.params import IemocapCorpus

_UTTERANCE = r"(Ses0([1-5])[FM]_\w+_([FM])\d+)"
# [6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 2.5000, 2.5000]
_EVALUATION = re.compile(rf"\[[\d.]+ - [\d.]+\]\t{_UTTERANCE}\t(\w+)\t\[([\d.]+), ([\d.]+), ([\d.]+)\]")
# Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
_TRANSCRIPT = re.compile(rf"{_UTTERANCE} \[[\d.]+-[\d.]+\]:(.*)")
_NON_SPEECH = re.compile(r"\[[^\]]*\]")
_UNDECIDED = "xxx"


def prepare(corpus: IemocapCorpus, seed: int) -> Source:
    """The evaluated utterances of the sessions in order, then the recordings that nobody evaluated.

    Raises:
        CorpusError: there is no session, or a session without evaluations.
    """
    sessions = sorted(find(corpus.path, "Session[1-5]").parent.glob("Session[1-5]"))
    lines = [line for session in sessions for line in _evaluations(session)]
    evaluations = [line for line in lines if isinstance(line, re.Match)]
    malformed = [line for line in lines if isinstance(line, Reject)]
    texts = {name: text for session in sessions for name, text in _transcripts(session)}
    files = {path.stem: path for session in sessions for path in _recordings(session)}
    named = {match[1] for match in evaluations}
    unnamed = [
        Reject(name, "not in the metadata", f"{path}: no line of dialog/EmoEvaluation is about it")
        for name, path in files.items()
        if name not in named
    ]

    def read(match: re.Match[str]) -> Row:
        name, session, letter, code, *dimensions = match.groups()
        if name not in files:
            folder = sessions[0].parent / f"Session{session}/sentences/wav"
            raise missing_audio(name, folder / name.rpartition("_")[0] / f"{name}.wav")
        if code == _UNDECIDED and not corpus.keep_undecided:
            detail = f"{files[name]}: the annotators did not agree (xxx); option keep_undecided keeps it"
            raise BadRow(name, "no agreed emotion", detail, expected=True)
        if name not in texts:
            raise BadRow(name, "no text", f"{files[name]}: no line of dialog/transcriptions is about it")
        return Utterance(
            id=name,
            split="test" if int(session) == corpus.test_session else "train",
            audio=files[name],
            text=texts[name],
            language="en",
            # Not the letter in `Ses01F`, which says who wore the markers of motion capture.
            speaker=f"Ses0{session}{letter}",
            gender="female" if letter == "F" else "male",
            emotion=_emotion(name, code, corpus.merge_excited),
            custom={
                "emotion_raw": code,
                **dict(zip(("valence", "activation", "dominance"), map(float, dimensions), strict=True)),
            },
        )

    return Source(len(lines) + len(unnamed), chain(rows_of(evaluations, read), malformed, unnamed))


def _emotion(name: str, code: str, merge_excited: bool) -> str | None:
    label = read_emotion(name, name, "" if code == _UNDECIDED else code)
    return "happy" if label == "excited" and merge_excited else label


def _evaluations(session: Path) -> Iterator[re.Match[str] | Reject]:
    """The header line of each utterance, which starts with a bracket; the lines below it are single votes."""
    headers = [
        (path, line.strip())
        for path, line in _lines(session / "dialog/EmoEvaluation")
        if line.startswith("[")
    ]
    if not headers:
        raise CorpusError(f"{session}: no evaluations in dialog/EmoEvaluation; unpack the full release again")
    for path, line in headers:
        match = _EVALUATION.fullmatch(line)
        yield match or Reject(
            path.stem, "malformed row", f"{path}: '{line}' is not times, name, emotion, values"
        )


def _transcripts(session: Path) -> Iterator[tuple[str, str]]:
    for _, line in _lines(session / "dialog/transcriptions"):
        if match := _TRANSCRIPT.fullmatch(line.strip()):
            yield match[1], " ".join(_NON_SPEECH.sub(" ", match[4]).split())


def _lines(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.glob("*.txt")):
        if not is_hidden(path):
            yield from ((path, line) for line in read_lines(path))


def _recordings(session: Path) -> list[Path]:
    return sorted(path for path in (session / "sentences/wav").glob("*/*.wav") if not is_hidden(path))
