"""A flow's name alone finds its deployment `local`, or the only one that it has."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from flows.plugin import _deployment_of


class Client:
    def __init__(self, names: list[str]) -> None:
        self.names = names

    async def read_deployments(self, flow_filter: Any) -> list[SimpleNamespace]:
        assert flow_filter.name.any_ == ["train-azeros"]
        return [SimpleNamespace(name=name) for name in self.names]


@pytest.mark.parametrize(
    ("names", "found"), [(["paper"], "paper"), (["paper", "local"], "local"), ([], "local")]
)
def test_the_deployment_of_a_flow(names: list[str], found: str) -> None:
    assert asyncio.run(_deployment_of(Client(names), "train-azeros")) == found
