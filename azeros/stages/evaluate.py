"""Stage `evaluate`: held-out speech put to the models before and after each training stage, its text to the language model."""

from __future__ import annotations

import logging
from pathlib import Path

from azeros.errors import StageError
from azeros.params import Params
from azeros.work import stage_output

logger = logging.getLogger(__name__)

_ARTIFACTS = ("report.md", "metrics.json", "abilities.svg", "gap.csv", "gap.svg", "answers.jsonl")


def run(params: Params, manifests: Path, models: Path, output: Path) -> None:
    """Write metrics.json, report.md, plots and every answer to `output`.

    Args:
        params: settings; `evaluate.corpora` says whose test splits are asked.
        manifests: folder with one manifest folder a corpus.
        models: folder with the outputs of the training stages.
        output: the folder to make.

    Raises:
        StageError: a training stage has left no projectors, or not those of both branches.
        AudioError, ManifestError, ModelError: by what is wrong with the inputs.
    """
    from azeros import tracking
    from azeros.data.manifests import cuts_path, read_cuts
    from azeros.evaluation.answers import speech_answers, text_answers
    from azeros.evaluation.asks import Ask, asks_of, score
    from azeros.evaluation.gap import Slice, figures, measure, slices
    from azeros.evaluation.report import summary, write_report
    from azeros.foundation import build_model, encoder_paths
    from azeros.training.encoded import encode_cuts

    settings = params.evaluate
    _check_projectors(models)
    cuts = {corpus: list(read_cuts(cuts_path(manifests / corpus, "test"))) for corpus in settings.corpora}
    asks = [ask for of_corpus in cuts.values() for cut in of_corpus for ask in asks_of(cut, settings)]
    durations_s = {cut.id: cut.duration for of_corpus in cuts.values() for cut in of_corpus}
    with (
        tracking.stage_run("evaluate", settings.model_dump(mode="json")) as run_log,
        stage_output(output) as draft,
    ):
        model = build_model(params, paraling=True)
        encoded = encode_cuts(model, encoder_paths(params, paraling=True), cuts, manifests)
        ceiling = text_answers(model, asks, settings.batch_size, settings.max_new_tokens)
        answers: dict[str, dict[Ask, str]] = {"text": ceiling}
        plain = [ask for ask in asks if ask.kind == "plain"]
        gaps: dict[str, list[Slice]] = {}
        for name, paraling, projectors in (
            ("untrained", False, None),
            ("stage1", False, models / "stage1"),
            ("stage2", True, models / "stage2"),
        ):
            model = build_model(params, paraling, projectors)
            branches = encoded.branches(encoder_paths(params, paraling))
            answers[name] = speech_answers(
                name, model, asks, branches, durations_s, settings.batch_size, settings.max_new_tokens
            )
            gap = measure(name, model, plain, ceiling, branches, settings.max_new_tokens)
            gaps[name] = slices(gap, (cut for of_corpus in cuts.values() for cut in of_corpus))
        results = {name: score(asks, given, ceiling) for name, given in answers.items()}
        for name, parts in gaps.items():
            results[name] |= figures(parts)
        write_report(draft, results, gaps, asks, answers)
        run_log.set_summary(
            {
                f"{name}/{kind}": figure.value
                for name, found in results.items()
                for kind, figure in found.items()
            }
        )
        for artifact in _ARTIFACTS:
            run_log.log_artifact(draft / artifact)
    for line in summary(results):
        logger.info(line)
    logger.info("%s/report.md has intervals, a plot and what they said", output)


def _check_projectors(models: Path) -> None:
    from azeros.model.checkpoint import read_weights

    for stage in ("stage1", "stage2"):
        weights = models / stage / "projectors.safetensors"
        if not weights.is_file():
            raise StageError(f"{weights}: no projectors there: run dvc repro train@{stage}")
        held = {name.partition("_")[0] for name in read_weights(weights)}
        if stage == "stage2" and "paraling" not in held:
            raise StageError(f"{weights}: no paralinguistic projector in it: run dvc repro train@stage2")
