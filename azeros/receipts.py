"""What `azeros plan` has predicted of a stage, and what it then took."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from azeros.work import WORK_ROOT, digest, write_json

logger = logging.getLogger(__name__)


def predict(stage: str, key: object, seconds: float) -> None:
    """Write down how long `stage` will take with the inputs and settings `key`."""
    write_json(_path(stage, key), {"stage": stage, "predicted_s": round(seconds, 1)})


def compare(stage: str, key: object, seconds: float, stopped_at: int | None = None) -> None:
    """Say how long `stage` took, `stopped_at` a step before the last or not, beside what was predicted, if it was; and keep both."""
    path = _path(stage, key)
    if not path.exists():
        return
    predicted_s = json.loads(path.read_text(encoding="utf-8"))["predicted_s"]
    receipt = {"stage": stage, "predicted_s": predicted_s, "took_s": round(seconds, 1)}
    write_json(path, receipt | {"stopped_early_at_step": stopped_at})
    took = span(seconds) if stopped_at is None else f"{span(seconds)} and stopped early at step {stopped_at}"
    off = 100 * (predicted_s / seconds - 1)
    logger.info("%s took %s; azeros plan had said %s (%+.0f %%)", stage, took, span(predicted_s), off)


def span(seconds: float) -> str:
    """A time for people: 42 s, 3 min, 2 h 05, 12 d 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d}" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _path(stage: str, key: object) -> Path:
    return WORK_ROOT / "plan" / f"{stage}-{digest(key)}.json"
