"""`azeros tiny build`: the tiny foundation from scratch, about two hours on two cores."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def run(output: Path = WEIGHTS) -> None:
    """Train the language model and both encoders side by side, one core each, and write them to `output`.

    Progress goes to .work/tiny/*.jsonl, a line every few steps. `azeros tiny measure` says what they can do.
    """
    logs = Path(".work/tiny")
    logs.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        jobs = [pool.submit(_build_llm, output, logs), pool.submit(_build_encoders, output, logs)]
        for job in jobs:
            job.result()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _build_llm(output: Path, logs: Path) -> None:
    from azeros.tiny.llm import LLMRecipe, build_llm

    build_llm(output / "llm", LLMRecipe(), logs / "llm.jsonl")


def _build_encoders(output: Path, logs: Path) -> None:
    from azeros.tiny.encoders import EncoderRecipe, build_encoders

    build_encoders(output, EncoderRecipe(), logs / "encoders.jsonl")
