"""A look at targets before they are made: some cuts, answered in several modes, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from azeros.data.manifests import cut_text, read_cuts
from azeros.errors import ManifestError
from azeros.params import Mode, Params
from azeros.sift.answers import Answer, Backend, answer_all
from azeros.sift.profile import LLMProfile
from azeros.sift.prompts import Prompt
from azeros.sift.selection import Rejected, select

if TYPE_CHECKING:
    from lhotse.cut import Cut
    from rich.table import Table


@dataclass(frozen=True)
class Preview:
    """One cut in several modes."""

    id: str
    text: str
    """Its transcript."""
    outcomes: dict[Mode, Answer | Rejected]


def spread(manifest: Path, num: int) -> list[Cut]:
    """So many cuts, or all if there are fewer, evenly from all over the manifest.

    Raises:
        ManifestError: there is no such manifest, or it is empty or damaged.
    """
    cuts = read_cuts(manifest)
    total = len(cuts)
    if not total:
        raise ManifestError(f"{manifest}: it is empty; make it again")
    wanted = {index * total // num for index in range(num)}
    return [cut for index, cut in enumerate(cuts) if index in wanted]


def preview(
    cuts: Sequence[Cut],
    modes: Sequence[Mode],
    params: Params,
    profile: LLMProfile,
    backend: Backend,
    advance: Callable[[int], object],
) -> list[Preview]:
    """What the language model answers to each cut in each mode; `advance` counts answers.

    Raises:
        ManifestError, ParamsError: as `select`.
        EndpointError: as `answer_all`.
    """
    selected = {(cut.id, mode): select(cut, mode, params, profile) for cut in cuts for mode in modes}
    prompts = [prompt.prompt for prompt in selected.values() if isinstance(prompt, Prompt)]
    answers = dict(zip(prompts, answer_all(backend, prompts, advance), strict=True))
    outcomes: dict[tuple[str, Mode], Answer | Rejected] = {
        key: row if isinstance(row, Rejected) else answers[row.prompt] for key, row in selected.items()
    }
    return [Preview(cut.id, cut_text(cut), {mode: outcomes[cut.id, mode] for mode in modes}) for cut in cuts]


def to_table(previews: Sequence[Preview], modes: Sequence[Mode]) -> Table:
    """A row for each cut, a column for each mode."""
    from rich.table import Table
    from rich.text import Text

    table = Table("cut", "transcript", *modes, show_lines=True)
    for row in previews:
        said = (
            f"rejected: {outcome.reason}" if isinstance(outcome, Rejected) else outcome.text
            for outcome in row.outcomes.values()
        )
        table.add_row(*map(Text, (row.id, row.text, *said)))
    return table
