"""`azeros benchmark`: check a copy of VoiceBench or AIR-Bench, and have a system answer it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, help="Put a system to VoiceBench or AIR-Bench.")

Benchmark = Annotated[
    Literal["voicebench", "airbench"], typer.Argument(metavar="BENCHMARK", help="voicebench or airbench.")
]
Subset = Annotated[
    str,
    typer.Argument(metavar="SUBSET", help="A set by its official name; of AIR-Bench, foundation or chat."),
]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="The data set's folder as it is published.")]
Partial = Annotated[bool, typer.Option("--partial", help="Take a part of the set for all of it.")]


@app.command(epilog="Example: azeros benchmark check voicebench bbh data/voicebench")
def check(benchmark: Benchmark, subset: Subset, data: Data) -> None:
    """Print how many rows of a set are there beside how many there should be; exits with 1 if they differ."""
    from azeros.evaluation.samples import load_samples

    found = load_samples(benchmark, subset, data, partial=True)
    typer.echo("\n".join(found.counts()))
    if not found.is_complete:
        raise typer.Exit(1)


@app.command(epilog="Example: azeros benchmark run azeros voicebench bbh data/voicebench results/azeros")
def run(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="A name in params.yaml, benchmark.systems.")
    ],
    benchmark: Benchmark,
    subset: Subset,
    data: Data,
    output: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT", help="Folder for the response file, which is named as officially."),
    ],
    partial: Partial = False,
    params: Annotated[Path, typer.Option("--params", metavar="PATH", help="The settings file.")] = Path(
        "params.yaml"
    ),
) -> None:
    """Have a system answer a set; the same command goes on after a kill, and asks again for what failed."""
    from azeros.evaluation.generation import generate
    from azeros.evaluation.samples import load_samples
    from azeros.evaluation.systems.registry import make_system, settings_of
    from azeros.params import load_params

    settings = settings_of(system, load_params(params).benchmark.systems)
    found = load_samples(benchmark, subset, data, partial)
    typer.echo("\n".join(found.counts()), err=True)
    typer.echo(generate(system, make_system(system, settings), found, output))
