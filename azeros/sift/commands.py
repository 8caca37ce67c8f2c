"""`azeros sift TOOL`: prompts, answers and language models to look at before targets are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_args

import typer

from azeros.params import Mode, load_params
from azeros.stage_command import StageAndTools

app = typer.Typer(
    cls=StageAndTools,
    no_args_is_help=True,
    subcommand_metavar="SET MANIFESTS OUTPUT | TOOL ...",
    context_settings={"ignore_unknown_options": True},  # they may be the stage's
    epilog="Example: azeros sift tiny_s data/manifests/tiny data/targets/sift_s/tiny_s",
)

Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", help="Cuts, .jsonl or .jsonl.gz.")]
ParamsPath = Annotated[Path, typer.Option("--params", metavar="PATH", help="The settings file.")]


@app.callback()
def main() -> None:
    """Have the language model answer each transcript: the targets of training.

    SET is a name in params.yaml, sift.sets; MANIFESTS the folder that prepare
    made; OUTPUT the folder to make, which appears when complete. Or run a TOOL.

    With --shard 2/8 only the second of eight parts is answered, and kept in
    .work: run one on each GPU or machine that shares the folder, and then the
    command without --shard, which gathers.
    """


@app.command(
    epilog="Example: azeros sift render data/manifests/tiny/cuts_test.jsonl.gz --mode sit_sp --language en"
)
def render(
    manifest: Manifest,
    mode: Annotated[Mode, typer.Option(help="What the language model is shown.")],
    language: Annotated[
        str | None, typer.Option(metavar="LANG", help="Of every cut, in place of what the manifest says.")
    ] = None,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Print the prompt of each cut as a line of JSON; loads no model.

    In the turns of Qwen2.5; preview asks a language model in its own.
    """
    settings = load_params(params)
    from azeros.sift.prompts import render_manifest

    for prompt in render_manifest(manifest, mode, language, settings.sift):
        line = json.dumps(vars(prompt), ensure_ascii=False)
        # UTF-8 whatever the locale; half a character, which UTF-8 has not, becomes an escape of JSON.
        typer.echo(line.encode(errors="backslashreplace"))


@app.command(
    epilog="Example: azeros sift preview data/manifests/tiny/cuts_test.jsonl.gz --modes sift_s,sit_sp"
)
def preview(
    manifest: Manifest,
    modes: Annotated[
        str, typer.Option(metavar="MODE,...", help="What the language model is shown.")
    ] = ",".join(get_args(Mode)),
    num: Annotated[int, typer.Option(min=1, help="How many cuts, from all over the manifest.")] = 5,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Print answers to some cuts in several modes side by side."""
    settings = load_params(params)
    wanted = {mode.strip() for mode in modes.split(",")}
    chosen: list[Mode] = [mode for mode in get_args(Mode) if mode in wanted]
    if len(chosen) < len(wanted):
        raise typer.BadParameter(f"'{modes}': give some of {','.join(get_args(Mode))}", param_hint="--modes")
    from rich.console import Console

    from azeros.progress import track
    from azeros.sift import preview as tool
    from azeros.sift.answers import make_backend
    from azeros.sift.profile import read_profile

    cuts = tool.spread(manifest, num)
    profile = read_profile(settings.foundation.llm)
    backend = make_backend(profile, settings.sift)
    with track("sift preview", len(cuts) * len(chosen)) as advance:
        rows = tool.preview(cuts, chosen, settings, profile, backend, advance)
    Console().print(tool.to_table(rows, chosen))


@app.command(epilog="Example: azeros sift doctor --manifest data/manifests/tiny/cuts_test.jsonl.gz")
def doctor(
    manifest: Annotated[
        Path | None, typer.Option(metavar="MANIFEST", help="Cuts to ask about; else built-in sentences.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="How many cuts, from all over the manifest.")] = 32,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Check whether a language model is fit to write targets; exits with 1 if it is not."""
    settings = load_params(params)
    from rich.console import Console

    from azeros.data.manifests import supervision_of
    from azeros.progress import track
    from azeros.sift import doctor as tool
    from azeros.sift.answers import make_backend
    from azeros.sift.preview import spread
    from azeros.sift.profile import read_profile

    profile = read_profile(settings.foundation.llm)
    findings = tool.check_files(profile)
    said = [supervision_of(cut) for cut in spread(manifest, num)] if manifest else tool.sample()
    if not any(finding.status == "failed" for finding in findings):
        asked = tool.questions(said, settings.sift, profile.chat)
        with track("sift doctor", len(asked)) as advance:
            coverage, more = tool.elicit(asked, make_backend(profile, settings.sift), advance)
        Console().print(tool.to_table(coverage))
        findings += more
    for finding in findings:
        typer.echo(f"{finding.status:<9}{finding.check}: {finding.message}")
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(1)
