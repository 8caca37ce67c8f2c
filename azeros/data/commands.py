"""`azeros data`: the tools that make, check and describe manifests by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make, check and describe manifests by hand.")

_BY_HAND_SHARE = 1.0  # whoever reads the report decides


@app.command(epilog="Example: azeros data prepare crema_d /corpora/CREMA-D data/manifests/crema_d")
def prepare(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a corpus, such as crema_d or AISHELL-1.")
    ],
    corpus_dir: Annotated[Path, typer.Argument(metavar="CORPUS_DIR", help="Folder that the corpus lies in.")],
    output_dir: Annotated[
        Path, typer.Argument(metavar="OUTPUT_DIR", help="Folder to make; appears when complete.")
    ],
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="An option of the recipe, as in params.yaml; may be repeated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the recipe that draws sentences (tiny).")] = 1,
) -> None:
    """Make the manifests of a corpus, as the stage prepare does, with any number of rejects."""
    from azeros.data.catalog import read_catalog
    from azeros.data.corpus import prepare_corpus

    catalog = read_catalog()
    name = catalog.recipe(recipe)
    corpus = catalog.corpus(name, str(corpus_dir), option or [])
    report = prepare_corpus(name, corpus, seed, output_dir, _BY_HAND_SHARE)
    typer.echo(report.to_markdown())
    if report.rejected:
        typer.echo(f"Rejected rows, each with its reason: {output_dir / 'rejects.jsonl'}")
