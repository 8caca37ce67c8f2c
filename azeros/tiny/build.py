"""`azeros tiny build`: the tiny foundation from scratch, about two hours on two cores."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def run(output: Path = WEIGHTS) -> None:
    """Train the language model and both encoders side by side, one core each, and write them with their figures to `output`.

    Progress goes to .work/tiny/*.jsonl, a line every few steps.
    """
    logs = Path(".work/tiny")
    logs.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        llm = pool.submit(_build_llm, output, logs)
        encoders = pool.submit(_build_encoders, output, logs)
        figures = {"llm": llm.result(), "encoders": encoders.result()}
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _build_llm(output: Path, logs: Path) -> dict[str, float]:
    from azeros.tiny.llm import LLMRecipe, build_llm, text_accuracy

    build_llm(output / "llm", LLMRecipe(), logs / "llm.jsonl")
    return text_accuracy(output / "llm", "test", num_sentences=200, seed=5)


def _build_encoders(output: Path, logs: Path) -> dict[str, float]:
    from azeros.tiny.encoders import EncoderRecipe, build_encoders

    return build_encoders(output, EncoderRecipe(), logs / "encoders.jsonl")
