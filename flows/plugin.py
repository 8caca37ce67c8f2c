"""Lets `prefect deployment run train-azeros` name a flow alone: the deployment `local` of it, or its only one.

Prefect asks for FLOW/DEPLOYMENT. Its plugin hook is official, wrapping its client is not: `train-azeros/local` always works.
pyproject.toml switches this on ([tool.prefect.plugins]) in the folder of the project and nowhere else.
"""

from functools import wraps
from typing import Any

from prefect.plugins import HookContext, register_hook

DEFAULT_DEPLOYMENT = "local"


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Prefect's start-up hook."""
    from prefect.client.orchestration import PrefectClient

    read = PrefectClient.read_deployment_by_name
    if hasattr(read, "__wrapped__"):
        return

    @wraps(read)
    async def read_by_flow_name(client: PrefectClient, name: str) -> Any:
        return await read(client, name if "/" in name else f"{name}/{await _deployment_of(client, name)}")

    setattr(PrefectClient, read.__name__, read_by_flow_name)


async def _deployment_of(client: Any, flow_name: str) -> str:
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    of_flow = FlowFilter(name=FlowFilterName(any_=[flow_name]))
    names = [str(found.name) for found in await client.read_deployments(flow_filter=of_flow)]
    return names[0] if len(names) == 1 else DEFAULT_DEPLOYMENT
