"""The `azeros` command: one subcommand a stage of dvc.yaml, and the tools beside the pipeline.

Stages load when they are called: `azeros --help` imports no heavy package.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from typer.core import TyperGroup

from azeros.data import commands as data
from azeros.errors import AzerosError
from azeros.evaluation import commands as benchmark
from azeros.params import Mode, Params, load_params, override, read_overrides
from azeros.work import die_with_parent, is_disk_full

_INTERRUPTED = 130  # what shells report after Ctrl-C


class _Commands(TyperGroup):
    """One line on stderr and an exit code for what the user can mend; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _failure("interrupted; the same command goes on where it stopped", _INTERRUPTED) from error
        except AzerosError as error:
            raise _failure(" ".join(str(error).split())) from error
        except ModuleNotFoundError as error:
            if (error.name or "azeros").partition(".")[0] in ("azeros", "flows", "bento"):
                raise
            raise _failure(f"package '{error.name}' is not installed; run make setup") from error
        except Exception as error:
            if not is_disk_full(error):
                raise
            raise _failure(
                f"the disk is full ({error}); free space and run the same command again"
            ) from error


class StageAndTools(TyperGroup):
    """`azeros STAGE TOOL ...` runs a tool; any other word after the stage's is the first of its own arguments."""

    STAGE = "stage"

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The tool that `args` begin with, or the stage."""
        return super().resolve_command(ctx, args if args[0] in self.commands else [self.STAGE, *args])


def _failure(message: str, exit_code: int = 1) -> typer.Exit:
    typer.echo(f"azeros: {message}", err=True)
    return typer.Exit(exit_code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
tiny = typer.Typer(no_args_is_help=True, help="The tiny world that ships with the package.")
app.add_typer(tiny, name="tiny")
sift = typer.Typer(
    cls=StageAndTools,
    no_args_is_help=True,
    subcommand_metavar="SET MANIFESTS OUTPUT | TOOL ...",
    context_settings={"ignore_unknown_options": True},  # they may be the stage's
    epilog="Example: azeros sift tiny_s data/manifests/tiny data/targets/sift_s/tiny_s",
)
app.add_typer(sift, name="sift")
app.add_typer(data.app, name="data")
app.add_typer(benchmark.app, name="benchmark")

ParamsPath = Annotated[Path, typer.Option("--params", metavar="PATH", help="The settings file.")]
Output = Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to make; appears when complete.")]
Manifests = Annotated[Path, typer.Argument(metavar="MANIFESTS", help="Folder that prepare made.")]
Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", help="Cuts, .jsonl or .jsonl.gz.")]
Models = Annotated[Path, typer.Argument(metavar="MODELS", help="Folder with one model a training stage.")]


@app.callback(
    epilog="Examples: dvc repro runs every stage; azeros chat speech.wav 'What did the speaker say?'"
)
def main() -> None:
    """From speech to a speech LLM: the stages that dvc.yaml runs, and tools beside them."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("azeros").setLevel(logging.INFO)


def _start_stage(params: Path) -> Params:
    die_with_parent()
    return load_params(params)


@app.command(epilog="Example: azeros prepare tiny data/manifests/tiny")
def prepare(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="A name in params.yaml, corpora.")],
    output: Output,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Make the manifests of a corpus."""
    settings = _start_stage(params)
    from azeros.stages import prepare as stage

    stage.run(settings, corpus, output)


@sift.callback()
def sift_main() -> None:
    """Have the language model answer each transcript: the targets of training.

    SET is a name in params.yaml, sift.sets; MANIFESTS the folder that prepare
    made; OUTPUT the folder to make, which appears when complete. Or run a TOOL.
    """


@sift.command(StageAndTools.STAGE, hidden=True)
def sift_stage(
    targets: Annotated[str, typer.Argument(metavar="SET", help="A name in params.yaml, sift.sets.")],
    manifests: Manifests,
    output: Output,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Run the stage."""
    settings = _start_stage(params)
    from azeros.stages import sift as stage

    stage.run(settings, targets, manifests, output)


@sift.command(
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
    """Print the prompt of each cut as a line of JSON; loads no model."""
    settings = load_params(params)
    from azeros.sift.prompts import render_manifest

    for prompt in render_manifest(manifest, mode, language, settings.sift):
        line = json.dumps(vars(prompt), ensure_ascii=False)
        # UTF-8 whatever the locale; half a character, which UTF-8 has not, becomes an escape of JSON.
        typer.echo(line.encode(errors="backslashreplace"))


@sift.command(
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
    chosen: list[Mode] = [mode for mode in get_args(Mode) if mode in modes.split(",")]
    if len(chosen) < len(modes.split(",")):
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


@sift.command(epilog="Example: azeros sift doctor --manifest data/manifests/tiny/cuts_test.jsonl.gz")
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
        with track("sift doctor", len(said) * len(tool.MODES)) as advance:
            backend = make_backend(profile, settings.sift)
            coverage, more = tool.elicit(said, settings.sift, backend, advance)
        Console().print(tool.to_table(coverage))
        findings += more
    for finding in findings:
        typer.echo(f"{finding.status:<9}{finding.check}: {finding.message}")
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: azeros train stage1 data/manifests data/targets/sift_s models/stage1")
def train(
    train_stage: Annotated[
        Literal["stage1", "stage2"], typer.Argument(metavar="STAGE", help="stage1 or stage2.")
    ],
    manifests: Manifests,
    targets: Annotated[Path, typer.Argument(metavar="TARGETS", help="Folder with the sets that sift made.")],
    output: Output,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Train the projectors of one stage."""
    settings = _start_stage(params)
    from azeros.stages import train as stage

    stage.run(settings, train_stage, manifests, targets, output)


@app.command(epilog="Example: azeros evaluate data/manifests models reports/evaluate")
def evaluate(
    manifests: Manifests,
    models: Models,
    output: Output,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Ask every model about held-out speech, and the language model about its text."""
    settings = _start_stage(params)
    from azeros.stages import evaluate as stage

    stage.run(settings, manifests, models, output)


@app.command(epilog="Example: azeros package models/stage2 models/azeros")
def package(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a trained model.")],
    output: Output,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Make a self-contained folder that AZerosModel.from_pretrained loads."""
    settings = _start_stage(params)
    from azeros.stages import package as stage

    stage.run(settings, model, output)


@app.command(epilog="Example: azeros chat speech.wav 'What did the speaker say?'")
def chat(
    wav: Annotated[Path, typer.Argument(metavar="WAV", help="A recording.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to ask about it.")],
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="A packaged model.")] = Path("models/azeros"),
) -> None:
    """Ask a packaged model about a recording."""
    from azeros.serving import chat as serving

    typer.echo(serving.answer(model, wav, prompt))


@app.command(
    name="override", epilog="Example: azeros override flows/paper.yaml train.stage1.num_steps=200000"
)
def override_settings(
    items: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE|FILE...", help="Settings by dotted key, or files of them."),
    ],
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Write settings into params.yaml, whose comments stay; nothing is written unless all of it is valid."""
    values = read_overrides(items)
    override(params, values)
    typer.echo(f"{params}: {len(values)} settings written; git diff {params} shows them")


@app.command(
    epilog="Examples: azeros release; azeros release --promote 3 (by hand, or back to an earlier version)"
)
def release(
    promote: Annotated[
        int | None, typer.Option(metavar="VERSION", help="Make this version the champion.")
    ] = None,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Register the packaged model; it becomes the champion if it beats the present one."""
    settings = load_params(params)
    from azeros import release as releases

    if promote is not None:
        folder = releases.promote(settings, promote)
        typer.echo(f"version {promote} is the champion: {releases.CHAMPION_LINK} -> {folder.name}")
        return
    outcome = releases.run(settings)
    became = "is now the champion" if outcome.promoted else "was not promoted"
    typer.echo(f"version {outcome.version} {became}: {outcome.reason}")


@app.command(epilog="Example: azeros lineage champion")
def lineage(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A number, or champion.")] = "champion",
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Print what a registered model was made from, and what of it is at hand."""
    settings = load_params(params)
    from azeros import release as releases

    for what, identity, state in releases.lineage(settings, version):
        typer.echo(f"{what:<32}{identity:<60}{state}")


@app.command(epilog="Example: azeros export models/azeros models/onnx")
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A packaged model.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for speech.onnx, paraling.onnx.")],
) -> None:
    """Write encoders and projectors as ONNX files, compared with torch in onnxruntime."""
    from azeros.model.export import export_onnx
    from azeros.model.speech_llm import AZerosModel

    for name, difference in export_onnx(AZerosModel.from_pretrained(model), output).items():
        typer.echo(f"{output / name}.onnx: largest difference from torch {difference:.1e}")


@app.command(epilog="Example: azeros score voicebench openbookqa azeros-openbookqa-test-audio.jsonl")
def score(
    benchmark: Annotated[
        Literal["voicebench", "airbench"], typer.Argument(metavar="BENCHMARK", help="voicebench or airbench.")
    ],
    subset: Annotated[
        str,
        typer.Argument(
            metavar="SUBSET", help="A set by its official name; of AIR-Bench, foundation or chat."
        ),
    ],
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


@app.command(epilog="Example: azeros judge voicebench azeros-commoneval-test-audio.jsonl judged.jsonl")
def judge(
    benchmark: Annotated[
        Literal["voicebench", "airbench"],
        typer.Argument(metavar="BENCHMARK", help="voicebench, or airbench for Chat."),
    ],
    responses: Annotated[Path, typer.Argument(metavar="FILE", help="Responses in the official layout.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The same rows, judged: for azeros score.")
    ],
    ledger: Annotated[
        Path, typer.Option(metavar="FILE", help="Judgements by what was asked; made if missing.")
    ] = Path("data/judgements.jsonl"),
    exchanged: Annotated[
        bool, typer.Option("--exchanged", help="For Chat: the second pass, with the answers exchanged.")
    ] = False,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Have the judge of params.yaml judge responses; what the ledger holds is not asked again."""
    settings = load_params(params).evaluate.judge
    from azeros.evaluation.judging.files import judge_file

    figures = judge_file(benchmark, responses, output, ledger, settings, exchanged)
    typer.echo(json.dumps(figures, ensure_ascii=False, indent=2))


@app.command(epilog="Example: azeros leaderboard results reports")
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


@app.command(epilog="Example: azeros panda-weights data/panda")
def panda_weights(
    output: Output,
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


@tiny.command(epilog="Example: azeros tiny build")
def build() -> None:
    """Train the tiny foundation from scratch and write its weights into the package (hours)."""
    from azeros.tiny import build as tiny_build

    tiny_build.run()


@tiny.command(epilog="Example: azeros tiny measure")
def measure() -> None:
    """Measure the tiny foundation on held-out sentences and voices (minutes)."""
    from azeros.tiny import build as tiny_build
    from azeros.tiny import measure as tiny_measure

    for name, value in tiny_measure.run(tiny_build.WEIGHTS).items():
        typer.echo(f"{name:<34}{100 * value:6.2f} %")
