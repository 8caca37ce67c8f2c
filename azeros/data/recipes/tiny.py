"""The tiny world's corpus: sentences of its grammar, spoken by espeak-ng. The test split has sentences and voices of its own."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from azeros.data.recipes import Question, Source, Utterance
from azeros.errors import CorpusError
from azeros.params import TinyCorpus

# One process renders one chunk and ends: what espeak-ng gives depends on what the same process rendered before.
_CHUNK = 1000
# What is asked of the LLM's understanding on held-out speech; attributes and repeating need no question of their own.
_ASKED = ("topic", "who", "choice")


def prepare(corpus: TinyCorpus, seed: int) -> Source:
    """Render `corpus`; the same world, sizes and seed give the same samples, on however many cores.

    Raises:
        CorpusError: the world file is missing, or espeak-ng is not installed.
    """
    if not corpus.path.is_file():
        raise CorpusError(f"{corpus.path}: no such world file: correct corpora.*.path in params.yaml")
    sizes = {"train": corpus.num_train, "validation": corpus.num_validation, "test": corpus.num_test}
    chunks = [
        (corpus.path, split, start, min(start + _CHUNK, size), seed)
        for split, size in sizes.items()
        for start in range(0, size, _CHUNK)
    ]
    return Source(sum(sizes.values()), _render_all(chunks))


def _render_all(chunks: list[tuple[Path, str, int, int, int]]) -> Iterator[Utterance]:
    spawn = multiprocessing.get_context("spawn")
    # At Ctrl-C a worker ends at once, in place of rendering what is left of its chunk.
    at_once = (signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(
        os.cpu_count(), spawn, initializer=signal.signal, initargs=at_once, max_tasks_per_child=1
    ) as pool:
        for utterances in pool.map(_render, *zip(*chunks, strict=True)):
            yield from utterances


def _render(path: Path, split: str, start: int, end: int, seed: int) -> list[Utterance]:
    from azeros.tiny.speech import Synthesizer, random_voice
    from azeros.tiny.world import Speaker, World

    world, synthesizer = World(path), Synthesizer()
    speaker, speech = Speaker(world), world.values["speech"]
    rng = random.Random(f"{seed}-{split}-{start}")
    drawn = []
    for number in range(start, end):
        language = world.random_language(rng)
        scrambled = split == "train" and rng.random() < world.values["scrambled_share"]
        sentence = world.scrambled(rng, language) if scrambled else world.sentence(rng, language, split)
        drawn.append((number, sentence, random_voice(rng, speech, world.meta_values, language, split)))
    utterances = []
    # Voice by voice, because changing it takes espeak-ng longer than speaking.
    for number, sentence, voice in sorted(drawn, key=lambda row: (row[2].espeak_name, row[0])):
        tasks = speaker.tasks(rng, sentence, {}, canonical=True)
        questions = tuple(Question(t.kind, t.instruction, t.reply) for t in tasks if t.kind in _ASKED)
        utterances.append(Utterance(
            id=f"{split}-{number:05d}",
            split=split,
            audio=synthesizer.render(sentence.text, voice, speech, rng).samples,
            text=sentence.text,
            language=sentence.language,
            speaker=voice.speaker,
            gender=voice.gender,
            age_group=voice.age,
            emotion=voice.emotion,
            questions=questions if split == "test" else (),
        ))  # fmt: skip
    return sorted(utterances, key=lambda utterance: utterance.id)
