"""Stage `benchmark`: systems put to VoiceBench and AIR-Bench, scored as officially, beside the published rows."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.params import Params, TinyBenchmark
from azeros.work import hash_files, stage_output, work_dir, write_json

if TYPE_CHECKING:
    from azeros.evaluation.leaderboard.results import Row
    from azeros.evaluation.responses import Benchmark
    from azeros.evaluation.samples import SampleSet
    from azeros.evaluation.systems.base import System

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parents[1]
# The code that what is kept in .work depends on.
_SPEAKING = ("tiny/benchmarks.py", "tiny/speech.py", "tiny/world.py")
_ANSWERING = ("data/audio.py", "data/features.py", "evaluation/systems/*.py", "model/*.py")
_BENCHMARKS: tuple[Benchmark, ...] = ("voicebench", "airbench")


def run(params: Params, output: Path) -> None:
    """Write the leaderboard, metrics.json, and a folder a system with responses and scores to `output`.

    What a system has answered stays under .work/benchmark: another system added to `benchmark.asked`, or another
    judge, asks none of it again.

    Raises:
        BenchmarkError: data are missing or incomplete, or responses cannot be scored.
        ModelError, EndpointError: by what is wrong with a system, or with the judge.
    """
    from azeros import tracking
    from azeros.evaluation.leaderboard.pages import write_pages
    from azeros.evaluation.leaderboard.results import read_results
    from azeros.evaluation.systems.registry import make_system

    settings = params.benchmark
    sets = list(_load_sets(params))
    with (
        tracking.stage_run("benchmark", settings.model_dump(mode="json")) as run_log,
        stage_output(output) as draft,
    ):
        for name in settings.asked:
            for asked, responses in list(_answer(name, make_system(name, settings.known_systems), sets)):
                _score(params, asked.benchmark, asked.subset, responses, draft / name)
        rows = read_results(draft)
        figures = _figures(rows)
        write_json(draft / "metrics.json", figures)
        for page in write_pages(rows, draft):
            run_log.log_artifact(page)
        run_log.set_summary(
            {
                f"{system}/{column}": value
                for system, columns in figures.items()
                for column, value in columns.items()
            }
        )
    for system, columns in figures.items():
        told = ", ".join(f"{column} {value:.1f}" for column, value in columns.items())
        logger.info("%s: %s", system, told or "nothing that can be scored without a judge")
    logger.info("%s/leaderboard.md and .html have intervals, and the published rows beside", output)


def _load_sets(params: Params) -> Iterator[SampleSet]:
    """All that will be asked: what is missing is said before any model is loaded."""
    from azeros.evaluation.samples import load_samples

    for benchmark in _BENCHMARKS:
        data = getattr(params.benchmark.data, benchmark)
        subsets = getattr(params.benchmark.sets, benchmark)
        if not subsets:
            continue
        folder = _tiny_folder(data, params.seed) / benchmark if isinstance(data, TinyBenchmark) else data.path
        for subset in subsets:
            yield load_samples(benchmark, subset, folder, data.partial)


def _tiny_folder(data: TinyBenchmark, seed: int) -> Path:
    """Where the stand-ins are, made if they are not."""
    from azeros.tiny.benchmarks import write_benchmarks
    from azeros.tiny.world import World

    key = {
        "made_by": hash_files([data.path, *_sources(_SPEAKING)]),
        "num_rows": data.num_rows,
        "seed": seed,
    }
    folder = work_dir("benchmark", key) / "data"
    if not folder.exists():
        with stage_output(folder) as draft:
            write_benchmarks(draft, World(data.path), data.num_rows, seed)
    return folder


def _sources(patterns: Iterable[str]) -> list[Path]:
    """Files of this package."""
    return [path for pattern in patterns for path in _PACKAGE.glob(pattern)]


def _answer(name: str, system: System, sets: list[SampleSet]) -> Iterator[tuple[SampleSet, Path]]:
    """Each set that the system can be asked, and the file of its responses."""
    from azeros.evaluation.generation import find_hindrance, generate

    identity = system.identity
    if "files_sha256" in identity:  # it answers in this process: other code may answer otherwise
        identity |= {"code": hash_files(_sources(_ANSWERING))}
    for asked in sets:
        if hindrance := find_hindrance(system, asked):
            logger.info("%s %s is not put to %s: %s", asked.benchmark, asked.subset, name, hindrance)
            continue
        folder = work_dir("benchmark", {"system": identity, "data": asked.fingerprint()})
        yield asked, generate(name, system, asked, folder)


def _score(params: Params, benchmark: Benchmark, subset: str, responses: Path, folder: Path) -> None:
    """Copy the responses and what they depend on to `folder`, and write their scores beside them."""
    from azeros.evaluation.judging.files import judge_file
    from azeros.evaluation.judging.ledger import LEDGER
    from azeros.evaluation.score import needs_judge, score_file, unjudged

    settings = params.benchmark
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / responses.name
    shutil.copy(responses, path)
    shutil.copy(responses.with_suffix(".run.json"), folder)
    panda = settings.panda_weights if subset == "sd-qa" else None
    passes = [path]
    if needs_judge(subset) and settings.judged:
        # Chat is judged twice, the second time with the answers exchanged.
        names = ("normal", "cir") if subset == "chat" else ("judged",)
        passes = [path.with_suffix(f".{name}.jsonl") for name in names]
        for judged in passes:
            exchanged = judged.suffixes[-2] == ".cir"
            verdict = judge_file(benchmark, path, judged, LEDGER, params.evaluate.judge, exchanged)
            write_json(judged.with_suffix(".json"), _named(verdict, "judged"))
    if needs_judge(subset) and not settings.judged and panda is None:
        figures = unjudged(benchmark, path, subset)
    else:
        second = passes[1] if len(passes) > 1 else None
        figures = score_file(benchmark, subset, passes[0], panda_weights=panda, exchanged=second)
    write_json(path.with_suffix(".score.json"), _named(figures, "file"))


def _named(figures: dict[str, Any], field: str) -> dict[str, Any]:
    """The folder is still to be moved: files in it go by their names."""
    return {**figures, field: Path(figures[field]).name}


def _figures(rows: list[Row]) -> dict[str, dict[str, float]]:
    """System -> column -> official figure, those that there are."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        cells = {name: cell.official for name, cell in row.cells.items() if cell.official is not None}
        found[row.system] = found.get(row.system, {}) | cells
    return found
