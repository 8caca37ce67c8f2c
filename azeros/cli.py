"""The `azeros` command: one subcommand a stage of dvc.yaml, and the tools beside the pipeline.

Stages load when they are called: `azeros --help` imports no heavy package.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from azeros.data import commands as data
from azeros.errors import AzerosError
from azeros.evaluation import commands as evaluation
from azeros.overrides import override, read_overrides
from azeros.params import Params, load_params
from azeros.sift import commands as sift
from azeros.stage_command import StageAndTools
from azeros.work import die_with_parent, is_disk_full, is_out_of_memory

_TRAIN_IN_LESS = "lower train.*.micro_batch_size, set activation_checkpointing: true or llm_dtype: bfloat16, or train.shard_llm: true"
# What takes less of it, by command.
_LESS_MEMORY = {
    "sift": "lower sift.backend.batch_size",
    "train": _TRAIN_IN_LESS,
    "plan": _TRAIN_IN_LESS,
    "evaluate": "lower evaluate.batch_size",
    "benchmark": "lower batch_size of the system in benchmark.systems",
}
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
            if is_disk_full(error):
                raise _failure(
                    f"the disk is full ({error}); free space and run the same command again"
                ) from error
            if is_out_of_memory(error):
                remedy = _LESS_MEMORY.get(ctx.invoked_subcommand, "free some and run the same command again")
                said = str(error).partition("\n")[0]
                raise _failure(f"not enough memory ({said or type(error).__name__}); {remedy}") from error
            raise


def _failure(message: str, exit_code: int = 1) -> typer.Exit:
    typer.echo(f"azeros: {message}", err=True)
    return typer.Exit(exit_code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
tiny = typer.Typer(
    no_args_is_help=True,
    help="The tiny world that ships with the package.",
    epilog="Example: azeros tiny measure",
)
app.add_typer(tiny, name="tiny")
app.add_typer(sift.app, name="sift")
app.add_typer(data.app, name="data")
app.add_typer(evaluation.app, name="benchmark")
app.add_typer(evaluation.scoring)  # score, judge, leaderboard, panda-weights

ParamsPath = Annotated[Path, typer.Option("--params", metavar="PATH", help="The settings file.")]
Output = Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to make; appears when complete.")]
Manifests = Annotated[Path, typer.Argument(metavar="MANIFESTS", help="Folder that prepare made.")]
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


@sift.app.command(StageAndTools.STAGE, hidden=True)
def sift_stage(
    targets: Annotated[str, typer.Argument(metavar="SET", help="A name in params.yaml, sift.sets.")],
    manifests: Manifests,
    output: Output,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Answer the I-th of N parts and keep it for a run without --shard."),
    ] = None,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Run the stage."""
    settings = _start_stage(params)
    from azeros.sift.shards import Shard
    from azeros.stages import sift as stage

    stage.run(settings, targets, manifests, output, Shard.parse(shard) if shard else None)


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


@app.command(epilog="Example: azeros plan stage1 data/targets/sift_s models")
def plan(
    train_stage: Annotated[
        Literal["stage1", "stage2"], typer.Argument(metavar="STAGE", help="stage1 or stage2.")
    ],
    targets: Annotated[Path, typer.Argument(metavar="TARGETS", help="Folder with the sets that sift made.")],
    models: Models,
    processes: Annotated[int, typer.Option(min=1, metavar="N", help="How many are to train, one a GPU.")] = 1,
    params: ParamsPath = Path("params.yaml"),
) -> None:
    """Measure a few training steps, and say what the stage will take: time, memory, disk."""
    settings = load_params(params)
    from azeros.plan import plan_stage

    typer.echo("\n".join(plan_stage(settings, train_stage, targets, models, processes).lines()))


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


@evaluation.app.command(StageAndTools.STAGE, hidden=True)
def benchmark_stage(output: Output, params: ParamsPath = Path("params.yaml")) -> None:
    """Run the stage."""
    settings = _start_stage(params)
    from azeros.stages import benchmark as stage

    stage.run(settings, output)


@app.command(epilog="Example: azeros doctor")
def doctor(params: ParamsPath = Path("params.yaml")) -> None:
    """Check this machine; exits with 1 if something is missing that the pipeline of params.yaml needs."""
    settings = load_params(params)
    from azeros.doctor import examine

    num_missing = 0
    for finding in examine(settings):
        typer.echo(f"{finding.status:<9}{finding.check:<12}{finding.message}")
        num_missing += finding.status == "missing"
    if num_missing:
        raise _failure(f"{num_missing} missing; see above")
    typer.echo("the pipeline can run: dvc repro")


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


@app.command(
    epilog="Examples: azeros lineage champion; azeros lineage models/azeros; azeros lineage azeros:latest"
)
def lineage(
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            help="A number, champion, an MLflow or Prefect run, a folder of a packaged model, or a bento by folder or tag.",
        ),
    ] = "champion",
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


@tiny.command(epilog="Example: azeros tiny benchmarks data/benchmarks")
def benchmarks(
    output: Output,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="Rows of each set.")] = 12,
    seed: Annotated[int, typer.Option(metavar="SEED", help="Another seed, other sentences and voices.")] = 1,
) -> None:
    """Speak small stand-ins for VoiceBench and AIR-Bench, in their own layouts (seconds)."""
    from azeros.tiny.benchmarks import write_benchmarks
    from azeros.tiny.world import World
    from azeros.work import stage_output

    with stage_output(output) as draft:
        write_benchmarks(draft, World(), rows, seed)
    typer.echo(f"{output}/voicebench\n{output}/airbench")


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
