"""The tiny world's language: sentences from a small grammar, and what its LLM is to answer to them (world.yaml)."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import yaml

WORLD = Path(__file__).parent / "world.yaml"
META_KEYS = ("age", "gender", "emotion")


@dataclass(frozen=True)
class Sentence:
    """Something that is said, and what is known about it."""

    text: str
    language: str
    answer: str
    topic: str
    who: list[str] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    """Slot -> its filling in this sentence; empty for scrambled words."""


class World:
    """The grammar of world.yaml."""

    def __init__(self, path: Path = WORLD) -> None:
        self.values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.languages = ["en", "zh"]

    def sentence(self, rng: random.Random, language: str, split: str) -> Sentence:
        """A random sentence that belongs to `split` (train, validation or test)."""
        templates = self.values[language]["templates"]
        weights = [t["share"] for t in templates]
        while True:
            template = rng.choices(templates, weights)[0]
            sentence = self._fill(rng, language, template)
            if self._split(sentence) in (split, "any"):
                return sentence

    def scrambled(self, rng: random.Random, language: str) -> Sentence:
        """Two words or more in no order: nothing in them can be guessed, so they have to be heard, and copied.

        Half of them are the words of a sentence, which come in the numbers that speech has them in. Never stands the same
        word or character twice in a row: held long, it sounds as if said once.
        """
        text = self._shuffled(rng, language) if rng.random() < 0.5 else self._any_words(rng, language)
        answer = self.values[language]["scrambled"].format(text=text)
        return Sentence(text, language, answer, topic="")

    def _shuffled(self, rng: random.Random, language: str) -> str:
        while True:
            text = self.sentence(rng, language, "train").text
            parts = text.split() if language == "en" else list(text)
            rng.shuffle(parts)
            if all(one != other for one, other in pairwise(parts)):
                return (" " if language == "en" else "").join(parts)

    def _any_words(self, rng: random.Random, language: str) -> str:
        words: list[str] = []
        for _ in range(rng.randint(2, 7)):
            last = words[-1] if words else ""
            same = {w for w in self.words(language) if w == last or (language == "zh" and w[0] == last[-1:])}
            words.append(rng.choice([w for w in self.words(language) if w not in same]))
        return (" " if language == "en" else "").join(words)

    def words(self, language: str) -> list[str]:
        """Every word that sentences of the language are made of, sorted."""
        values = self.values[language]
        fillings = {word for slot in values["slots"].values() for word in slot}
        fixed = " ".join(re.sub(r"{\w+}", " ", t["text"]) for t in values["templates"]).split()
        return sorted(fillings.union(fixed))

    def random_language(self, rng: random.Random) -> str:
        """A language, as often as its share says."""
        return rng.choices(self.languages, [self.values[language]["share"] for language in self.languages])[0]

    def _fill(self, rng: random.Random, language: str, template: dict[str, Any]) -> Sentence:
        values = self.values[language]
        slots = list(dict.fromkeys(re.findall(r"{(\w+)}", template["text"])))
        words: dict[str, str] = {}
        for slot in slots:
            words[slot] = rng.choice(
                [w for w in values["slots"][slot.rstrip("0123456789")] if w not in words.values()]
            )
        known = {
            name: table[words["country"]] for name, table in values["facts"].items() if "country" in words
        }
        answer = (
            f"{template['answer']} {values['closing']}"
            if language == "en"
            else template["answer"] + values["closing"]
        )
        answer = answer.format(topic=template["topic"], **words, **known)
        who = [words[slot] for slot in template["who"]]
        return Sentence(template["text"].format(**words), language, answer, template["topic"], who, words)

    def _split(self, sentence: Sentence) -> str:
        """The split that owns a sentence; "any" for templates with too few fillings to hold some out."""
        rule = self.values["held_out"]
        slots = self.values[sentence.language]["slots"]
        if prod(len(slots[slot.rstrip("0123456789")]) for slot in sentence.words) < rule["min_combinations"]:
            return "any"
        position = zlib.crc32(sentence.text.encode()) % 1000 / 1000
        if position < rule["test_share"]:
            return "test"
        return "validation" if position < rule["test_share"] + rule["validation_share"] else "train"

    @cached_property
    def meta_values(self) -> dict[str, list[str]]:
        """Attribute -> its labels."""
        return {key: list(self.values["attributes"][key]) for key in META_KEYS}


@dataclass(frozen=True)
class Task:
    """An instruction and the reply to it; `kind` names the ability."""

    kind: str
    instruction: str
    reply: str


class Speaker:
    """What the tiny world's LLM is taught to say."""

    def __init__(self, world: World) -> None:
        self.world = world

    def tasks(
        self, rng: random.Random, sentence: Sentence, meta: dict[str, str], canonical: bool = False
    ) -> Iterator[Task]:
        """Every instruction that can be given about a sentence, with its reply; in a random phrasing unless `canonical`."""
        values = self.world.values[sentence.language]
        replies = values["replies"]
        end = "." if sentence.language == "en" else "。"
        told = {"repeat": sentence.text}
        told["describe"] = (
            fill_attributes(replies["describe"], {**meta, "text": sentence.text}) if meta else sentence.text
        )
        told |= {key: meta[key] + end if key in meta else replies["unknown"] for key in META_KEYS}
        if sentence.words:
            told["topic"] = sentence.topic + end
            told["who"] = " and ".join(sentence.who) + end if sentence.who else replies["nobody"]
        for kind, reply in told.items():
            phrasings = values["instructions"][kind]
            yield Task(kind, phrasings[0] if canonical else rng.choice(phrasings), reply)
        if sentence.words:
            yield self.choice(rng, sentence)

    def choice(self, rng: random.Random, sentence: Sentence) -> Task:
        """Four words, most of one kind, of which one was said."""
        values = self.world.values[sentence.language]
        said = set(sentence.words.values())
        slot = rng.choice(sorted(sentence.words))
        word = sentence.words[slot]
        alike = [w for w in values["slots"][slot.rstrip("0123456789")] if w not in said]
        options = [word, *rng.sample(alike, min(3, len(alike)))]
        spare = [w for w in self.world.words(sentence.language) if w not in said and w not in options]
        options += rng.sample(spare, 4 - len(options))
        rng.shuffle(options)
        instruction = values["instructions"]["choice"][0].format(
            a=options[0], b=options[1], c=options[2], d=options[3]
        )
        reply = values["replies"]["choice"].format(word=word, letter="abcd"[options.index(word)])
        return Task("choice", instruction, reply)


def fill_attributes(template: str, values: dict[str, str]) -> str:
    """Fill an attribute sentence; attributes that are not known are left out with their comma."""
    for key in META_KEYS:
        if key not in values:
            template = re.sub(rf"[,，]?\s*{{{key}}}", "", template)
    return re.sub(r"(sounds|听起来)[,，]", r"\1", template).format(**values)


def random_meta(rng: random.Random, world: World, keys: Sequence[str] = META_KEYS) -> dict[str, str]:
    """A random label for each of `keys`."""
    return {key: rng.choice(world.meta_values[key]) for key in keys}
