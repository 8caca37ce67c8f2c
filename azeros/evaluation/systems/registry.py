"""Systems by their names in params.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azeros.errors import BenchmarkError
from azeros.params import AzerosSystem, TextSystem

if TYPE_CHECKING:
    from azeros.evaluation.systems.base import System
    from azeros.params import System as Settings


def settings_of(name: str, systems: dict[str, Settings]) -> Settings:
    """The settings of the system `name`.

    Raises:
        BenchmarkError: there is none.
    """
    if name not in systems:
        raise BenchmarkError(
            f"no system '{name}'; benchmark.systems of params.yaml has {', '.join(systems) or 'none'}"
        )
    return systems[name]


def make_system(name: str, settings: Settings) -> System:
    """The system that the settings describe, ready to be asked.

    Raises:
        ModelError: its model does not load.
        EndpointError: there is no key for its endpoint.
    """
    if isinstance(settings, AzerosSystem):
        from azeros.evaluation.systems.azeros import Azeros

        return Azeros(settings)
    if isinstance(settings, TextSystem):
        from azeros.evaluation.systems.text import TextLLM

        return TextLLM(settings)
    from azeros.evaluation.systems.endpoint import ServedModel

    return ServedModel(name, settings)
