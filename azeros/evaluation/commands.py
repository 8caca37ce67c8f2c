"""`azeros benchmark`: check a copy of VoiceBench or AIR-Bench, and have a system answer it; and what scores the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from azeros.evaluation.judging.ledger import LEDGER
from azeros.evaluation.responses import Benchmark as Name
from azeros.stage_command import StageAndTools

scoring = typer.Typer()  # commands of azeros itself
app = typer.Typer(
    cls=StageAndTools,
    no_args_is_help=True,
    subcommand_metavar="OUTPUT | TOOL ...",
    context_settings={"ignore_unknown_options": True},  # they may be the stage's
    epilog="Example: azeros benchmark reports/benchmark",
)

Benchmark = Annotated[Name, typer.Argument(metavar="BENCHMARK", help="voicebench or airbench.")]
Subset = Annotated[
    str,
    typer.Argument(metavar="SUBSET", help="A set by its official name; of AIR-Bench, foundation or chat."),
]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="The data set's folder as it is published.")]
ParamsPath = Annotated[Path, typer.Option("--params", metavar="PATH", help="The settings file.")]
Partial = Annotated[bool, typer.Option("--partial", help="Take a part of the set for all of it.")]


@app.callback()
def main() -> None:
    """Put systems to VoiceBench and AIR-Bench, beside the published rows.

    Everything is set in params.yaml, benchmark; OUTPUT is the folder to make,
    which appears when complete. Killed, the same command goes on where it
    stopped. Or run a TOOL on a set of your choice.
    """


@app.command(epilog="Example: azeros benchmark check voicebench bbh data/voicebench")
def check(benchmark: Benchmark, subset: Subset, data: Data) -> None:
    """Print how many rows of a set are there beside how many there should be; exits with 1 if they differ."""
    from azeros.evaluation.samples import load_samples

    found = load_samples(benchmark, subset, data, partial=True)
    typer.echo("\n".join(found.counts()))
    if found.is_complete is False:
        raise typer.Exit(1)


@app.command(epilog="Example: azeros benchmark run azeros voicebench bbh data/voicebench results/azeros")
def run(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="A name that azeros benchmark systems lists.")
    ],
    benchmark: Benchmark,
    subset: Subset,
    data: Data,
    output: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT", help="Folder for the response file, which is named as officially."),
    ],
    partial: Partial = False,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Have a system answer a set; the same command goes on after a kill, and asks again for what failed."""
    from azeros.evaluation.generation import generate
    from azeros.evaluation.samples import load_samples
    from azeros.evaluation.systems.registry import make_system, settings_of
    from azeros.params import load_params

    systems = load_params(params).benchmark.known_systems
    settings_of(system, systems)
    found = load_samples(benchmark, subset, data, partial)
    typer.echo("\n".join(found.counts()), err=True)
    typer.echo(generate(system, make_system(system, systems), found, output))


@app.command(epilog="Example: azeros benchmark systems gemini")
def systems(
    name: Annotated[
        str | None,
        typer.Argument(metavar="SYSTEM", help="Print its settings, as params.yaml would have them."),
    ] = None,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """List who can be asked: those of params.yaml and of the published tables, with their rows in these."""
    from azeros.evaluation.systems.registry import settings_of
    from azeros.params import listed_systems, load_params

    settings = load_params(params).benchmark
    if name is not None:
        entry = settings_of(name, settings.known_systems).model_dump(mode="json")
        typer.echo(f"benchmark.systems.{name}:")
        typer.echo("\n".join(f"  {key}: {json.dumps(entry[key], ensure_ascii=False)}" for key in entry))
        return
    for known, system in settings.known_systems.items():
        listed = listed_systems().get(known)
        typer.echo(f"{known:<24}{system.kind:<10}{', '.join(listed.rows) if listed else ''}".rstrip())


@scoring.command(epilog="Example: azeros score voicebench openbookqa azeros-openbookqa-test-audio.jsonl")
def score(
    benchmark: Benchmark,
    subset: Subset,
    responses: Annotated[Path, typer.Argument(metavar="FILE", help="Responses in the official layout.")],
    items: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write what each row got, a JSON object a line.")
    ] = None,
    panda_weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For sd-qa: the folder that panda-weights made.")
    ] = None,
    exchanged: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For chat: the judge's pass with answers exchanged.")
    ] = None,
) -> None:
    """Score a file of responses as the benchmark's own scripts do, and say how much of it is luck."""
    from azeros.evaluation.score import score_file

    figures = score_file(
        benchmark, subset, responses, items=items, panda_weights=panda_weights, exchanged=exchanged
    )
    typer.echo(json.dumps(figures, ensure_ascii=False, indent=2))


@scoring.command(epilog="Example: azeros judge voicebench azeros-commoneval-test-audio.jsonl judged.jsonl")
def judge(
    benchmark: Annotated[Name, typer.Argument(metavar="BENCHMARK", help="voicebench, or airbench for Chat.")],
    responses: Annotated[Path, typer.Argument(metavar="FILE", help="Responses in the official layout.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The same rows, judged: for azeros score.")
    ],
    ledger: Annotated[
        Path, typer.Option(metavar="FILE", help="Judgements by what was asked; made if missing.")
    ] = LEDGER,
    exchanged: Annotated[
        bool, typer.Option("--exchanged", help="For Chat: the second pass, with the answers exchanged.")
    ] = False,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Have the judge of params.yaml judge responses; what the ledger holds is not asked again."""
    from azeros.evaluation.judging.files import judge_file
    from azeros.params import load_params

    settings = load_params(params).evaluate.judge

    figures = judge_file(benchmark, responses, output, ledger, settings, exchanged)
    typer.echo(json.dumps(figures, ensure_ascii=False, indent=2))


@scoring.command(epilog="Example: azeros leaderboard results reports")
def leaderboard(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="A folder a system, with its run.json files and what score and judge printed.",
        ),
    ],
    reports: Annotated[
        Path, typer.Argument(metavar="REPORTS", help="Folder for leaderboard.md and leaderboard.html.")
    ],
) -> None:
    """Write our rows beside the published ones, and say which of them compare."""
    from azeros.evaluation.leaderboard.pages import write_pages
    from azeros.evaluation.leaderboard.results import read_results

    for path in write_pages(read_results(results), reports):
        typer.echo(path)


@scoring.command(epilog="Example: azeros panda-weights data/panda")
def panda_weights(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to make; appears when complete.")],
    source: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror of the official folder: http(s) or file.")
    ] = None,
) -> None:
    """Fetch the weights of SD-QA's PANDA score once, and keep their numbers as plain arrays."""
    from azeros.evaluation.voicebench import panda_files
    from azeros.evaluation.voicebench.panda import CHECKED_DIGEST

    panda = panda_files.fetch(output, source or panda_files.OFFICIAL_SOURCE)
    checked = "the" if panda.digest == CHECKED_DIGEST else "NOT the"
    typer.echo(f"{output}: {checked} weights of 2024-10-30, SHA-256 {panda.digest}")
