"""`azeros data`: the tools that make, check and describe manifests by hand."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TextIO

import typer

from azeros.errors import StageError

app = typer.Typer(
    no_args_is_help=True,
    help="Make, check and describe manifests by hand.",
    epilog="Example: azeros data check data/manifests/tiny",
)

_BY_HAND_SHARE = 1.0  # whoever reads the report decides
_SHOWN = 20  # findings on the terminal

Pairs = list[str] | None


@app.command(epilog="Example: azeros data prepare crema_d /corpora/CREMA-D data/manifests/crema_d")
def prepare(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a corpus, such as crema_d or AISHELL-1.")
    ],
    corpus_dir: Annotated[
        str,
        typer.Argument(metavar="CORPUS_DIR", help="Folder that the corpus lies in; of shards, or their URL."),
    ],
    output_dir: Annotated[
        Path, typer.Argument(metavar="OUTPUT_DIR", help="Folder to make; appears when complete.")
    ],
    option: Annotated[
        Pairs, typer.Option(metavar="KEY=VALUE", help="Option of the recipe as in params.yaml; repeatable.")
    ] = None,
    replace_prefix: Annotated[
        Pairs,
        typer.Option(metavar="OLD=NEW", help="Where paths in the manifests of recipe cuts lead; repeatable."),
    ] = None,
    shar: Annotated[
        bool, typer.Option("--shar", help="Also write OUTPUT_DIR/shar/SPLIT as lhotse Shar.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of a recipe that draws sentences (tiny).")] = 1,
) -> None:
    """Make the manifests of a corpus, as the stage prepare does, with any number of rejects."""
    from azeros.data.catalog import read_catalog
    from azeros.data.corpus import SPLITS, prepare_corpus
    from azeros.data.manifests import cuts_path
    from azeros.data.shar import export_shar

    _require_replaceable(output_dir)
    catalog = read_catalog()
    name = catalog.recipe(recipe)
    corpus = catalog.corpus(name, corpus_dir, option or [], replace_prefix or [])
    report = prepare_corpus(name, corpus, seed, output_dir, _BY_HAND_SHARE)
    if shar:
        for split in SPLITS:
            if report.utterances["split"][split]:
                export_shar(cuts_path(output_dir, split), output_dir / "shar" / split)
    typer.echo(report.to_markdown())
    if report.rejected:
        typer.echo(f"Rejected rows, each with its reason: {output_dir / 'rejects.jsonl'}")


def _require_replaceable(output: Path) -> None:
    """Refuse to put the manifests in the place of files that prepare did not make."""
    is_free = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if not is_free and not (output / "report.json").is_file():
        raise StageError(
            f"{output}: is there and was not made by prepare; give a folder that is new or empty"
        )


@app.command(epilog="Example: azeros data check data/manifests/crema_d --findings findings.jsonl")
def check(
    manifests: Annotated[
        Path, typer.Argument(metavar="MANIFESTS", help="Folder that prepare made, or one manifest in it.")
    ],
    findings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write each finding to this file, one JSON object a line."),
    ] = None,
    max_chars_per_s: Annotated[float, typer.Option(help="More text than that cannot have been said.")] = 30.0,
) -> None:
    """Decode every recording again and compare it with its cut; exit code 1 if anything is wrong."""
    from azeros.data.check import check_manifests

    found = []
    with _open_new(findings) if findings else nullcontext() as kept:
        for finding in check_manifests(manifests, max_chars_per_s):
            found.append(finding)
            if kept:
                kept.write(json.dumps(asdict(finding), ensure_ascii=False) + "\n")
    for finding in found[:_SHOWN]:
        typer.echo(f"{finding.fault}: {finding.id}: {finding.detail}")
    if len(found) > _SHOWN:
        typer.echo(
            f"... and {len(found) - _SHOWN} more" + ("" if findings else "; --findings FILE keeps all")
        )
    counts = Counter(finding.fault for finding in found)
    typer.echo(", ".join(f"{count} {fault}" for fault, count in counts.most_common()) or "nothing is wrong")
    if found:
        raise typer.Exit(1)


def _open_new(path: Path) -> TextIO:
    """The file opened for writing, in a folder that is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StageError(f"{path}: cannot be written ({error.strerror}); give another file") from error


@app.command(epilog="Example: azeros data licenses --params params.yaml")
def licenses(
    params: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Settings whose mix is judged; else params.yaml if it is here."),
    ] = None,
) -> None:
    """Print the terms of every corpus and benchmark, and what weights trained on the mix may be used for."""
    from azeros.data.card import recipes_of_mix
    from azeros.data.catalog import read_catalog
    from azeros.data.licenses import to_table, verdict
    from azeros.params import load_params

    catalog = read_catalog()
    typer.echo(to_table([*catalog.corpora.values(), *catalog.benchmarks.values()]))
    is_default, params = params is None, params or Path("params.yaml")
    if is_default and not params.exists():
        typer.echo(f"There is no {params} here whose mix could be judged; give one with --params")
        return
    recipes = recipes_of_mix(load_params(params))
    titles = ", ".join(catalog.corpora[recipe].title for recipe in recipes)
    typer.echo(f"Weights trained on the mix of {params} ({titles}): {verdict(recipes)}")


@app.command(epilog="Example: azeros data card data/manifests reports/data.md")
def card(
    manifests: Annotated[
        Path, typer.Argument(metavar="MANIFESTS", help="Folder with one folder a corpus, as prepare made it.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The page to write; its plots and figures lie beside it.")
    ],
    params: Annotated[Path, typer.Option(metavar="PATH", help="The settings file.")] = Path("params.yaml"),
) -> None:
    """Write a page about the prepared corpora and the mixes that training draws from them."""
    from azeros.data.card import write_card
    from azeros.params import load_params

    write_card(load_params(params), manifests, output)
