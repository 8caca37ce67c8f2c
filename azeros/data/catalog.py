"""catalog.yaml: licence, source, hours in the paper and usual options of each corpus and benchmark."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from azeros.errors import CorpusError
from azeros.overrides import parse_override
from azeros.params import Corpus, parse_corpus


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Terms(_Facts):
    """Under which terms a corpus or benchmark may be used."""

    title: str
    source: str
    license: str
    commercial: Literal["yes", "no", "unclear"]
    """Whether weights trained on it may be sold."""
    terms: str


class CorpusFacts(Terms):
    """A corpus that has a recipe."""

    paper_hours: dict[str, float] = {}
    """Language to hours in the paper's training set; empty where it is not in it."""
    options: dict[str, Any]
    """Of the recipe, where nobody says otherwise."""


class Catalog(_Facts):
    """All of catalog.yaml."""

    corpora: dict[str, CorpusFacts]
    benchmarks: dict[str, Terms]

    def recipe(self, name: str) -> str:
        """The recipe that is meant by `name`: AISHELL-1, aishell1 or its unique beginning.

        Raises:
            CorpusError: there is none.
        """
        word = _plain(name)
        plain = {_plain(recipe): recipe for recipe in self.corpora}
        begun = [recipe for other, recipe in plain.items() if word and other.startswith(word)]
        if word in plain or len(begun) == 1:
            return plain.get(word) or begun[0]
        close = difflib.get_close_matches(word, plain, n=1)
        hint = f"did you mean {plain[close[0]]}?" if close else f"there are: {', '.join(self.corpora)}"
        raise CorpusError(f"no recipe '{name}'; {hint}")

    def corpus(
        self, recipe: str, path: str, options: Iterable[str], replace_prefix: Iterable[str] = ()
    ) -> Corpus:
        """The entry that params.yaml would have for a corpus, from options `key=value` and prefixes `old=new`.

        Raises:
            CorpusError: a prefix is not written so.
            ParamsError: an option is not written so, does not exist, or not with this value.
        """
        given = dict(map(parse_override, options))
        if prefixes := dict(map(_pair, replace_prefix)):
            given["replace_prefix"] = prefixes
        return parse_corpus({"recipe": recipe, "path": path, **self.corpora[recipe].options, **given})


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _pair(prefix: str) -> tuple[str, str]:
    old, equals, new = prefix.partition("=")
    if not (old and equals):
        raise CorpusError(f"'{prefix}': write old=new")
    return old, new


@cache
def read_catalog() -> Catalog:
    """The catalog that ships with the package."""
    text = (resources.files("azeros.data") / "catalog.yaml").read_text(encoding="utf-8")
    return Catalog.model_validate(YAML(typ="safe", pure=True).load(text))
