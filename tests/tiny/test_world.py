"""The tiny world: its splits, its answers, its speech."""

import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from azeros.tiny.speech import SAMPLING_RATE, Speech, Synthesizer, Voice
from azeros.tiny.world import Speaker, World
from tests.conftest import ROOT

WORLD = World()


def texts(split: str, num: int = 3000) -> set[str]:
    rng = random.Random(split)
    found = (WORLD.sentence(rng, "en", split) for _ in range(num))
    # Questions have few fillings: only their voices are held out.
    return {s.text for s in found if len(s.words) > 2 and not s.text.startswith("is it")}


def test_held_out_sentences_are_in_no_other_split() -> None:
    train, test = texts("train"), texts("test")
    assert len(test) > 100
    assert not test & train


def test_test_voices_are_not_training_voices() -> None:
    voices = WORLD.values["speech"]["voices"]
    assert all(not set(voices["train"][g]) & set(voices["test"][g]) for g in ("male", "female"))


def test_answers_name_every_filling() -> None:
    rng = random.Random(0)
    for _ in range(300):
        sentence = WORLD.sentence(rng, "en", "train")
        assert sentence.words.keys()
        assert all(word in sentence.answer for word in sentence.words.values())


def test_attributes_are_said_in_their_own_words() -> None:
    sentence = WORLD.sentence(random.Random(1), "en", "train")
    meta = {"age": "young adult", "emotion": "sad"}
    tasks = {t.kind: t for t in Speaker(WORLD).tasks(random.Random(0), sentence, meta, canonical=True)}
    assert tasks["describe"].reply == f"the speaker sounds sad, young adult and says: {sentence.text}."
    assert tasks["age"].reply == "young adult."
    assert tasks["gender"].reply == "i do not know."


def test_a_choice_names_the_word_that_was_said_and_its_letter() -> None:
    rng = random.Random(2)
    for _ in range(100):
        sentence = WORLD.sentence(rng, "en", "train")
        task = Speaker(WORLD).choice(rng, sentence)
        word, letter = task.reply.rstrip(".").split(", ")
        assert f"{letter}. {word}" in task.instruction
        assert word in sentence.text.split()


def render(emotion: str) -> Speech:
    voice = Voice("en-us", "m3", "male", "young adult", emotion)
    return Synthesizer().render("tom wants three red apples", voice, WORLD.values["speech"], random.Random(0))


def test_speech_is_real_and_moods_sound_different() -> None:
    sad, angry = render("sad"), render("angry")
    assert 0.8 < len(sad.samples) / SAMPLING_RATE < 4
    assert len(sad.samples) > len(angry.samples)
    assert np.abs(angry.samples).mean() > 1.5 * np.abs(sad.samples).mean()
    assert [start for start, _ in sad.word_starts] == [0, 4, 10, 16, 20]


def test_an_unknown_voice_is_named() -> None:
    from azeros.errors import CorpusError

    voice = Voice("no-such-language", "m3", "male", "senior", "sad")
    with pytest.raises(CorpusError, match="no-such-language"):
        Synthesizer().render("hello", voice, WORLD.values["speech"], random.Random(0))


RENDER = """
import hashlib, random
from azeros.tiny.speech import Synthesizer, Voice
from azeros.tiny.world import World
synthesizer, speech = Synthesizer(), World().values["speech"]
for variant in ("f2", "m4", "f5"):
    voice = Voice("en", variant, "female", "senior", "angry")
    print(hashlib.sha256(synthesizer.render("call bob", voice, speech, random.Random(3)).samples.tobytes()).hexdigest())
"""


def test_two_processes_render_the_same_samples() -> None:
    rendered = set()
    for _ in range(2):
        command = [sys.executable, "-c", RENDER]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        rendered.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
        time.sleep(1.1)  # past the second of the clock from which espeak-ng would draw its noise
    assert len(rendered) == 1
