"""Stage `train`: the projectors of one training stage."""

from __future__ import annotations

import logging
import math
import shutil
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from azeros.errors import StageError
from azeros.params import FirstStage, Params, TrainStage
from azeros.params import Validation as ValidationSettings
from azeros.receipts import compare
from azeros.work import hash_files, stage_output, work_dir, write_json

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from azeros.evaluation.validation import Validation
    from azeros.model.speech_llm import AZerosModel
    from azeros.tracking import StageRun
    from azeros.training.encoders import Encoder
    from azeros.training.processes import Processes
    from azeros.training.rows import Rows
    from azeros.training.unreadable import Unreadable

logger = logging.getLogger(__name__)


def run(params: Params, name: str, manifests: Path, targets: Path, output: Path) -> None:
    """Train the projectors of `name` (stage1 or stage2) and write them with their learning curve to `output`.

    Under torchrun, or with `params.train.launcher`, many processes do it together; the first writes.

    Args:
        params: settings; `params.train.<name>` are this stage's.
        name: stage1 trains the semantic projector, stage2 the paralinguistic one beside the frozen semantic one.
        manifests: folder with one manifest folder a corpus.
        targets: folder under which the sets lie: itself a mode's folder, or one that holds the modes'.
        output: gets projectors.safetensors, curve.csv, validation.csv and metrics.json.

    Raises:
        StageError: a set of targets or the stage to start from is not there.
        AudioError, ManifestError, ModelError: by what is wrong with the inputs.
    """
    from azeros.training.processes import join, launch

    launch(params.train.launcher)
    with join() as processes:
        _run(params, name, manifests, targets, output, processes)


@dataclass(frozen=True)
class Inputs:
    """What a training stage reads."""

    stage: TrainStage
    start: Path | None
    """Folder of the stage that it goes on from."""
    sets: dict[str, Rows]
    rejected: dict[str, dict[str, int]]
    """Set -> reason -> rows that were left out."""
    key: dict[str, object]
    """What its result depends on."""


def read_inputs(params: Params, name: str, targets: Path, models: Path) -> Inputs:
    """The rows of stage `name` and where it starts; the arguments and errors are those of `run`."""
    from azeros.data.licenses import require_commercial
    from azeros.sift.profile import read_profile
    from azeros.training.rows import read_rows

    stage: TrainStage = getattr(params.train, name)
    if params.commercial:
        for set_name in stage.sets:
            require_commercial(params.corpora[params.sift.sets[set_name].corpus].recipe)
    start = models / stage.start_from if stage.start_from else None
    folders = {set_name: _find_set(targets, params, set_name) for set_name in stage.sets}
    author = None if params.train.foreign_targets else read_profile(params.foundation.llm).author(params.sift)
    read = {set_name: read_rows(folder, params.filter, author) for set_name, folder in folders.items()}
    key = {
        "stage": stage,
        "seed": params.seed,
        "foundation": params.foundation,
        "filter": params.filter,
        "inputs": hash_files([*folders.values(), *([start] if start else [])]),
    }
    sets = {set_name: rows for set_name, (rows, _) in read.items()}
    return Inputs(stage, start, sets, {set_name: rejected for set_name, (_, rejected) in read.items()}, key)


def _run(
    params: Params, name: str, manifests: Path, targets: Path, output: Path, processes: Processes
) -> None:
    from azeros import tracking
    from azeros.training.loop import train
    from azeros.training.rows import batches, distinct, with_tagged
    from azeros.training.unreadable import Unreadable

    began_s = time.monotonic()
    with processes.one_after_the_first():
        inputs = read_inputs(params, name, targets, output.parent)
    stage, sets = inputs.stage, inputs.sets
    num_cuts, _ = distinct(sets.values())
    work = work_dir(name, inputs.key)
    is_fresh = not any(work.iterdir())
    is_live = stage.encoder_outputs == "live"
    unreadable = Unreadable(
        math.ceil(int(stage.max_unreadable_share * num_cuts) / (processes.num if is_live else 1)),
        work / f"unreadable-{processes.rank}.jsonl" if is_live else None,
    )
    with ExitStack() as stack:
        run_log = None
        if processes.is_first:
            settings = stage.model_dump(mode="json") | params.model_dump(
                mode="json", include={"seed", "foundation", "filter"}
            )
            run_log = stack.enter_context(tracking.stage_run(f"train@{name}", settings))
            draft = stack.enter_context(stage_output(output))
        model = trainable_model(params, name, inputs, processes)
        with processes.one_after_the_first():
            encoder = _encoder(params, stage, model, sets, manifests, unreadable)
            share = stage.tagged_share if isinstance(stage, FirstStage) else 0.0
            # What is read for each batch anew is left out of the batches that hold it, which stay what they are.
            left_out: set[str] = set() if is_live else unreadable.ids
            readable = {set_name: rows.without(left_out) for set_name, rows in sets.items()}
            mixed, weights = with_tagged(readable, stage.sets, share) if share else (readable, stage.sets)
            lengths = kept_lengths(work, mixed, model, encoder)
        stream = partial(batches, mixed, weights, stage.batch_size, params.seed, lengths, stage.max_batch_s)
        log = _log(params, stage, model, manifests, run_log, processes)
        curve = train(model, stream, encoder, stage, work, log, processes)
        num_unreadable = len(processes.union(unreadable.ids))
        stopped_at = round(curve[-1]["step"]) if curve[-1]["step"] < stage.num_steps else None
        if run_log:
            if stopped_at:
                logger.info("%s: stopped early at step %d of %d", name, stopped_at, stage.num_steps)
            _write(draft, model, curve, _metrics(inputs, num_unreadable, curve[-1]), run_log)
            _write_adapters(draft, model, name, inputs, run_log)
    if processes.is_first:
        shutil.rmtree(work)
        if is_fresh:
            compare(f"train@{name}", inputs.key, time.monotonic() - began_s, stopped_at)


def trainable_model(
    params: Params, name: str, inputs: Inputs, processes: Processes | None = None
) -> AZerosModel:
    """The model that stage `name` starts with, spread over `processes` if it is to be; what it is to train requires gradients.

    Raises:
        ModelError: a part is missing or does not fit.
    """
    import torch

    from azeros.device import default_device
    from azeros.foundation import build_model
    from azeros.model.adapters import add_adapter
    from azeros.training.sharding import shard

    stage = inputs.stage
    is_spread = params.train.shard_llm and processes is not None and processes.num > 1
    # A GPU that is too small for the whole language model gets its parts one by one.
    device = torch.device("cpu") if is_spread else default_device()
    model = build_model(params, name == "stage2", inputs.start, stage.llm_dtype, device)
    if inputs.start:
        model.speech_encoder_projector.requires_grad_(False)
    if stage.lora:
        add_adapter(model.llm, stage.lora, params.seed)
    if is_spread:
        shard(model.llm)
        torch.nn.Module.to(model, default_device())
    return model


def _encoder(
    params: Params,
    stage: TrainStage,
    model: AZerosModel,
    sets: dict[str, Rows],
    manifests: Path,
    unreadable: Unreadable,
) -> Encoder:
    from azeros.foundation import encoder_paths
    from azeros.training.encoded import encode_cuts
    from azeros.training.encoders import LiveEncoder, StoredEncoder

    if stage.encoder_outputs == "live":
        return LiveEncoder(model, params.seed if stage.spec_augment else None, unreadable)
    cuts: dict[str, list[Cut]] = {}
    for set_name, rows in sets.items():
        cuts.setdefault(params.sift.sets[set_name].corpus, []).extend(row.cut for row in rows)
    encoders = encoder_paths(params, "paraling" in model.encoders())
    return StoredEncoder(encode_cuts(model, encoders, cuts, manifests, unreadable))


def kept_lengths(
    work: Path, sets: Mapping[str, Rows], model: AZerosModel, encoder: Encoder
) -> dict[str, Sequence[int]]:
    """How many positions the rows of each set take; kept in `work`, as counting takes minutes a million."""
    from azeros.training.loop import num_tokens

    lengths: dict[str, Sequence[int]] = {}
    for name, rows in sets.items():
        path = work / f"{name}.lengths"
        kept = array("I", path.read_bytes()) if path.exists() else array("I")
        if len(kept) != len(rows):
            kept = array("I", num_tokens(rows, model, encoder))
            draft = work / f".{name}.partial"
            draft.write_bytes(kept.tobytes())
            draft.replace(path)
        lengths[name] = kept
    return lengths


def _log(
    params: Params,
    stage: TrainStage,
    model: AZerosModel,
    manifests: Path,
    run_log: StageRun | None,
    processes: Processes,
) -> Callable[[Mapping[str, float], int], dict[str, float]]:
    """Adds to each point of the curve what validation finds at it, in all processes alike, and logs it in the first."""
    settings = stage.validation
    every_steps = settings.every_steps if settings else 0
    validation = _validation(params, stage, settings, model, manifests, processes) if settings else None

    def log(values: Mapping[str, float], step: int) -> dict[str, float]:
        found = validation.run(step) if validation and step % every_steps == 0 else None
        figures = found.figures if found else {}
        if run_log:
            run_log.log({**values, **figures}, step)
        if run_log and found and found.answers:
            run_log.log_table("answers", found.answers)
        return figures

    return log


def _validation(
    params: Params,
    stage: TrainStage,
    settings: ValidationSettings,
    model: AZerosModel,
    manifests: Path,
    processes: Processes,
) -> Validation:
    """The first cuts of the validation split of each corpus that has one."""
    from azeros.data.manifests import cuts_path, read_cuts
    from azeros.evaluation.validation import Validation
    from azeros.foundation import encoder_paths
    from azeros.training.encoded import encode_cuts

    corpora = sorted({params.sift.sets[name].corpus for name in stage.sets})
    paths = {name: cuts_path(manifests / name, "validation") for name in corpora}
    cuts = {
        name: list(islice(read_cuts(path), settings.num_cuts))
        for name, path in paths.items()
        if path.is_file()
    }
    if not any(cuts.values()):
        raise StageError(
            f"none of {', '.join(corpora)} has a validation split in {manifests}: set train.*.validation: null"
        )
    with processes.one_after_the_first():
        encoded = encode_cuts(model, encoder_paths(params, "paraling" in model.encoders()), cuts, manifests)
    held_out = [cut for of_corpus in cuts.values() for cut in of_corpus]
    return Validation(model, held_out, encoded, params.sift.max_new_tokens, settings.num_answers)


def _write(
    draft: Path,
    model: AZerosModel,
    curve: list[dict[str, float]],
    metrics: dict[str, object],
    run_log: StageRun,
) -> None:
    from azeros.model.checkpoint import save_projectors
    from azeros.training.loop import VALIDATION_FIELDS, write_curve

    save_projectors(model, draft / "projectors.safetensors")
    write_curve(draft / "curve.csv", curve)
    write_curve(draft / "validation.csv", curve, VALIDATION_FIELDS)
    write_json(draft / "metrics.json", metrics)
    for artifact in ("projectors.safetensors", "curve.csv", "validation.csv", "metrics.json"):
        run_log.log_artifact(draft / artifact)


def _write_adapters(draft: Path, model: AZerosModel, name: str, inputs: Inputs, run_log: StageRun) -> None:
    """Of this stage, and of those that it goes on from."""
    from azeros.foundation import ADAPTERS
    from azeros.model.adapters import save_adapter

    if inputs.start and (inputs.start / ADAPTERS).is_dir():
        shutil.copytree(inputs.start / ADAPTERS, draft / ADAPTERS)
    if inputs.stage.lora:
        save_adapter(model.llm, draft / ADAPTERS / name)
    if (draft / ADAPTERS).is_dir():
        run_log.log_artifact(draft / ADAPTERS)


def _metrics(inputs: Inputs, num_unreadable: int, last: dict[str, float]) -> dict[str, object]:
    return {
        "rows": {name: len(rows) for name, rows in inputs.sets.items()},
        "rejected": inputs.rejected,
        "unreadable": num_unreadable,
        "stopped_early": last["step"] < inputs.stage.num_steps,
        **{key: round(last[key], 6) for key in ("step", "loss", "accuracy")},
    }


def _find_set(targets: Path, params: Params, set_name: str) -> Path:
    mode = params.sift.sets[set_name].mode
    for folder in (targets / set_name, targets / mode / set_name):
        if folder.is_dir():
            return folder
    raise StageError(
        f"{targets}: the targets of set {set_name} are not there: run `dvc repro sift@{set_name}`"
    )
