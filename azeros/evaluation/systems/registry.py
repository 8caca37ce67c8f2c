"""Systems by their names in params.yaml or catalog.yaml."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from azeros.errors import BenchmarkError
from azeros.params import AzerosSystem, CascadeSystem, HearingSystem, MoshiSystem, TextSystem

if TYPE_CHECKING:
    from azeros.evaluation.systems.base import System
    from azeros.params import System as Settings


def settings_of(name: str, systems: Mapping[str, Settings]) -> Settings:
    """The settings of the system `name`.

    Raises:
        BenchmarkError: there is none.
    """
    if name not in systems:
        close = difflib.get_close_matches(name, systems, n=1)
        meant = f"did you mean '{close[0]}'? " if close else ""
        raise BenchmarkError(f"no system '{name}'; {meant}azeros benchmark systems lists them")
    return systems[name]


def make_system(name: str, systems: Mapping[str, Settings]) -> System:
    """The system `name` as its settings describe it, ready to be asked.

    Raises:
        BenchmarkError: there is none of that name.
        ModelError: its model does not load.
        EndpointError: there is no key for its endpoint.
    """
    settings = settings_of(name, systems)
    if isinstance(settings, AzerosSystem):
        from azeros.evaluation.systems.azeros import Azeros

        return Azeros(settings)
    if isinstance(settings, TextSystem):
        from azeros.evaluation.systems.text import TextLLM

        return TextLLM(settings)
    if isinstance(settings, HearingSystem):
        from azeros.evaluation.systems.hearing import HearingModel

        return HearingModel(settings)
    if isinstance(settings, MoshiSystem):
        from azeros.evaluation.systems.moshi import Moshi

        return Moshi(settings)
    if isinstance(settings, CascadeSystem):
        from azeros.evaluation.systems.cascade import Cascade

        return Cascade(settings, make_system(settings.reader, systems))
    from azeros.evaluation.systems.endpoint import ServedModel

    return ServedModel(name, settings)
