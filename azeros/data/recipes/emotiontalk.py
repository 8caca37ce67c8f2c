"""Recipe `emotiontalk`: EmotionTalk, Mandarin dialogues acted by 19 speakers (spec/CORPORA.md section 9)."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from azeros.data.labels import gender_of
from azeros.data.recipes import BadRow, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import find_optional, is_hidden, missing_audio, read_emotion, read_facts
from azeros.errors import CorpusError
from azeros.params import EmotionTalkCorpus

_NAME = re.compile(r"(G\d{5})_\d+_(\d+)_\d+")
_SPLITS = {"G00001": "validation", "G00012": "validation", "G00003": "test", "G00015": "test"}
# [laughing], [interrupted], and overlap as [over/]words[/over] in several spellings: the words stay.
_TAG = re.compile(r"\[+/?[A-Za-z ]+/?\]+|\[over/?|[\[\]]")


def prepare(corpus: EmotionTalkCorpus, seed: int) -> Source:
    """The recordings in the order of their names, then the annotations without a recording.

    Raises:
        CorpusError: there are no recordings, or the table of speakers is not one.
    """
    files = _files(corpus.path, ".wav", "audio")
    if not files:
        raise CorpusError(
            f"{corpus.path}: no G*.wav in a folder Audio/wav; unpack the archives in audio/ there"
        )
    spoken, labels = _files(corpus.path, ".json", "audio"), _files(corpus.path, ".json", corpus.emotion)
    transcripts = _read_transcripts(corpus.path)
    genders = _read_genders(corpus.speakers) if corpus.speakers else _captioned_genders(spoken)
    names = [*files, *(name for name in spoken if name not in files)]
    wanted = [name for name in names if _split(name) in corpus.splits]

    def read(name: str) -> Row:
        if name not in files:
            raise missing_audio(name, spoken[name].with_suffix(".wav"))
        label = _read_json(name, labels[name]) if name in labels else {}
        text = transcripts.get(name)
        if text is None and name in spoken:
            text = str(_read_json(name, spoken[name]).get("content") or "")
        match = _NAME.fullmatch(name)
        assert match is not None
        raw = label.get("emotion_result")
        return Utterance(
            id=name,
            split=_split(name),
            audio=files[name],
            text=" ".join(_TAG.sub("", text or "").split()),
            language="zh",
            speaker=match[2],
            gender=genders.get(match[2]),
            emotion=read_emotion(name, str(labels.get(name)), raw),
            custom={"emotion_raw": raw} if raw else {},
        )

    return Source(len(wanted), rows_of(wanted, read))


def _split(name: str) -> str:
    return _SPLITS.get(name.partition("_")[0], "train")


def _files(root: Path, suffix: str, modality: str) -> dict[str, Path]:
    """Files by utterance, in the folder of a modality, however that is capitalised."""
    found = (
        path
        for path in root.rglob(f"*{suffix}")
        if _NAME.fullmatch(path.stem) and modality in (part.lower() for part in path.relative_to(root).parts)
    )
    return {path.stem: path for path in sorted(found, key=lambda path: path.stem) if not is_hidden(path)}


def _read_json(name: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise BadRow(name, "malformed row", f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise BadRow(name, "malformed row", f"{path}: not a JSON object")
    return content


def _read_transcripts(root: Path) -> dict[str, str]:
    path = find_optional(root, "transcription.csv")
    rows = read_facts(path, ["name", "chinese"]) if path else iter(())
    return {row["name"].rpartition("/")[2]: row["chinese"] for row in rows}


def _read_genders(path: Path) -> dict[str, str | None]:
    return {row["speaker"]: gender_of(row["gender"]) for row in read_facts(path, ["speaker", "gender"])}


def _captioned_genders(files: dict[str, Path]) -> dict[str, str | None]:
    """What most captions of a speaker's voice say: no field of the corpus holds the gender."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for name, path in files.items():
        try:
            captions = _read_json(name, path).get("sourceAttr")
        except BadRow:
            continue  # a reject later
        genders = {gender_of(character) for character in "".join(_caption(captions)) if character in "男女"}
        if len(genders) == 1:
            votes[name.split("_")[2]].update(gender for gender in genders if gender)
    return {speaker: counter.most_common(1)[0][0] for speaker, counter in votes.items()}


def _caption(captions: Any) -> Iterator[str]:
    """The texts about the speaker; all texts where the captions have no names."""
    if isinstance(captions, str):
        yield captions
    elif isinstance(captions, list):
        yield from chain.from_iterable(map(_caption, captions))
    elif isinstance(captions, dict):
        about = [value for key, value in captions.items() if "speaker" in key.lower()]
        yield from _caption(about or list(captions.values()))
