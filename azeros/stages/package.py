"""Stage `package`: one folder that holds all of the model and that `AZerosModel.from_pretrained` loads."""

from __future__ import annotations

from pathlib import Path

from azeros.params import Params
from azeros.work import hash_model, stage_output


def run(params: Params, model_folder: Path, output: Path) -> None:
    """Join the foundation and the projectors of `model_folder` into a self-contained model in `output`.

    Of a stage-1 model it has the semantic branch alone.

    Raises:
        ModelError: the projectors or a part of the foundation are missing or do not fit.
    """
    from azeros import tracking
    from azeros.foundation import build_model
    from azeros.model.checkpoint import read_weights

    weights = model_folder / "projectors.safetensors"
    paraling = weights.is_file() and any(name.startswith("paraling") for name in read_weights(weights))
    with (
        tracking.stage_run("package", params.package.model_dump(mode="json")) as run_log,
        stage_output(output) as draft,
    ):
        model = build_model(params, paraling, model_folder, params.package.dtype)
        model.save_pretrained(draft)
        run_log.set_tag(tracking.MODEL_TAG, hash_model(draft))
        run_log.set_summary({"size_mb": sum(f.stat().st_size for f in draft.rglob("*") if f.is_file()) / 1e6})
