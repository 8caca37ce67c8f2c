"""A command that runs a stage, or one of the tools that belong to it."""

from typing import Any

from typer.core import TyperGroup


class StageAndTools(TyperGroup):
    """`azeros STAGE TOOL ...` runs a tool; any other word after the stage's is the first of its own arguments."""

    STAGE = "stage"

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The tool that `args` begin with, or the stage."""
        return super().resolve_command(ctx, args if args[0] in self.commands else [self.STAGE, *args])
