"""Stand-ins for VoiceBench and AIR-Bench in their own layouts: few rows of held-out sentences and voices (spec/BENCHMARKS.md 1.1, 2).

They let every loader and scorer run on a laptop. The tiny language model follows no instruction that the real sets give, so
the figures say that the machinery works, and nothing about a system.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azeros.evaluation.airbench import chat, foundation
from azeros.evaluation.voicebench.data import SPLITS
from azeros.tiny.speech import SAMPLING_RATE, Synthesizer, random_voice
from azeros.tiny.world import META_KEYS, Sentence, Speaker, World

Row = dict[str, Any]

_DATASET = "tiny"
_MAX_DRAWS = 50  # a row
_BBH_TASKS = ("sports_understanding", "navigate", "web_of_lies", "hyperbaton")
_LANGUAGES = {"en": "english", "zh": "chinese"}


@dataclass(frozen=True)
class _Spoken:
    """What is said, by a voice that nothing was trained on, as WAV."""

    sentence: Sentence
    meta: dict[str, str]
    wav: bytes


class _Studio:
    """Draws sentences and has them spoken, always the same ones for a seed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.speaker = Speaker(world)
        self.rng = random.Random(f"{seed}-benchmarks")
        self._synthesizer = Synthesizer()

    def sentence(self, topic: str | None = None, language: str = "en") -> Sentence:
        while True:
            sentence = self.world.sentence(self.rng, language, "test")
            if topic in (None, sentence.topic):
                return sentence

    def say(self, text: str, language: str = "en") -> tuple[bytes, dict[str, str]]:
        """WAV at 16 kHz, and who speaks."""
        import soundfile

        speech = self.world.values["speech"]
        voice = random_voice(self.rng, speech, self.world.meta_values, language, "test")
        file = io.BytesIO()
        samples = self._synthesizer.render(text, voice, speech, self.rng).samples
        soundfile.write(file, samples, SAMPLING_RATE, format="WAV")
        return file.getvalue(), {key: getattr(voice, key) for key in META_KEYS}

    def spoken(self, language: str = "en") -> _Spoken:
        sentence = self.sentence(language=language)
        wav, meta = self.say(sentence.text, language)
        return _Spoken(sentence, meta, wav)


def write_benchmarks(folder: Path, world: World, num_rows: int, seed: int) -> None:
    """Write `folder`/voicebench and `folder`/airbench, `num_rows` rows of each set (and of each task of AIR-Bench).

    Of a set whose prompts are few, the capitals', there are only so many.

    Raises:
        CorpusError: espeak-ng is not installed, or lacks a voice of the world.
    """
    studio = _Studio(world, seed)
    for subset, splits in SPLITS.items():
        share = max(1, num_rows // len(splits))
        for split in splits:
            rows = _distinct_rows(_VOICEBENCH.get(subset, _open_row), studio, share)
            _write_split(folder / "voicebench" / subset / f"{split}-00000-of-00001.parquet", studio, rows)
    _write_airbench(folder / "airbench" / "Foundation", _foundation_items(studio, num_rows))
    _write_airbench(folder / "airbench" / "Chat", _chat_items(studio, num_rows))


def _distinct_rows(draw: Callable[[_Studio, int], Row], studio: _Studio, num_rows: int) -> list[Row]:
    """Rows of different prompts: a file in which each row stands twice is refused when it is scored."""
    rows: dict[str, Row] = {}
    for _ in range(_MAX_DRAWS * num_rows):
        if len(rows) < num_rows:
            row = draw(studio, len(rows))
            rows.setdefault(row["prompt"], row)
    return list(rows.values())


def _open_row(studio: _Studio, number: int) -> Row:
    return {"prompt": studio.sentence().text}


def _qa_row(studio: _Studio, number: int) -> Row:
    sentence = studio.sentence("geography")
    capitals = studio.world.values["en"]["facts"]["capital"]
    return {"prompt": sentence.text, "reference": capitals[sentence.words["country"]]}


def _bbh_row(studio: _Studio, number: int) -> Row:
    """A question whose answer is yes; of the task with choices, one that has none."""
    task = _BBH_TASKS[number % len(_BBH_TASKS)]
    return {
        "id": f"bbh_{task}_{number}",
        "prompt": studio.sentence("weather").text,
        "reference": "(A)" if task == "hyperbaton" else "Yes",
    }


def _ifeval_row(studio: _Studio, number: int) -> Row:
    """The answer is to hold the fillings of the sentence, and no comma."""
    sentence = studio.sentence("people")
    words = sorted(sentence.words.values())
    return {
        "key": number,
        "prompt": sentence.text,
        "instruction_id_list": ["keywords:existence", "punctuation:no_comma"],
        "kwargs": [{"keywords": words}, {"keywords": None}],
    }


def _mcq_row(studio: _Studio, number: int) -> Row:
    sentence = studio.sentence()
    choice = studio.speaker.choice(studio.rng, sentence)
    letter = choice.reply.rstrip(".")[-1].upper()
    return {"prompt": f"{sentence.text}. {choice.instruction}", "reference": letter}


_VOICEBENCH: dict[str, Callable[[_Studio, int], Row]] = {
    "sd-qa": _qa_row,
    "bbh": _bbh_row,
    "ifeval": _ifeval_row,
    "openbookqa": _mcq_row,
    "mmsu": _mcq_row,
}  # the others have a prompt alone


def _write_split(path: Path, studio: _Studio, rows: list[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    audio = [{"bytes": studio.say(row["prompt"])[0], "path": None} for row in rows]
    table = pyarrow.Table.from_pylist(
        [row | {"audio": recording} for row, recording in zip(rows, audio, strict=True)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def _foundation_items(studio: _Studio, num_rows: int) -> Iterator[tuple[Row, bytes]]:
    """For each row: the item with its four choices, and the recording."""
    world, rng = studio.world, studio.rng
    topics = sorted({template["topic"] for template in world.values["en"]["templates"]})
    for column, task in foundation.COLUMNS.items():
        for number in range(num_rows):
            spoken = studio.spoken(world.random_language(rng) if column == "lid" else "en")
            if column in META_KEYS:
                right, known = spoken.meta[column], world.meta_values[column]
            elif column == "lid":
                right, known = _LANGUAGES[spoken.sentence.language], list(_LANGUAGES.values())
            elif column == "entity":
                right, known = rng.choice(sorted(spoken.sentence.words.values())), world.words("en")
                known = [word for word in known if word not in spoken.sentence.words.values()]
            else:
                right, known = spoken.sentence.topic, topics
            others = [label for label in known if label != right]
            choices = [right, *rng.sample(others, min(3, len(others)))]
            rng.shuffle(choices)
            yield (
                {
                    "path": f"{number:04d}.wav",
                    "question": _QUESTIONS[column],
                    **{f"choice_{letter}": choice for letter, choice in zip("abcd", choices, strict=False)},
                    "answer_gt": right,
                    "task_name": task,
                    "dataset_name": _DATASET,
                    "uniq_id": f"{task}-{number}",
                },
                spoken.wav,
            )


_QUESTIONS = {
    "gender": "is the speaker male or female?",
    "emotion": "how does the speaker feel?",
    "age": "how old is the speaker?",
    "lid": "which language is spoken?",
    "entity": "which word was said?",
    "intent": "what is the topic?",
}


def _chat_items(studio: _Studio, num_rows: int) -> Iterator[tuple[Row, bytes]]:
    tasks = [task for task, category in chat.CATEGORIES.items() if category == chat.COLUMN]
    for task in tasks:
        for number in range(num_rows):
            spoken = studio.spoken()
            yield (
                {
                    "meta_info": f"A recording in which somebody says: {spoken.sentence.text}",
                    "question": "what is the topic?",
                    "answer_gt": f"{spoken.sentence.topic}.",
                    "path": f"{number:04d}.wav",
                    "task_name": task,
                    "dataset_name": _DATASET,
                    "uniq_id": f"{task}-{number}",
                },
                spoken.wav,
            )


def _write_airbench(folder: Path, items: Iterator[tuple[Row, bytes]]) -> None:
    rows = []
    for row, wav in items:
        path = folder / f"{row['task_name']}_{row['dataset_name']}" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav)
        rows.append(row)
    text = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    (folder / f"{folder.name}_meta.json").write_text(text, encoding="utf-8")
