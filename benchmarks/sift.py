"""Targets by azeros against a loop of static padded batches: same model, same 1,000 cuts, one process, one thread, CPU time.

The loop is how the original makes them (without its bug, which lost a cut a batch): 200 rows in the order of the manifest, padded to the
longest, generated until the last of them ends, 256 tokens at most.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import get_args

import torch
from lhotse import SupervisionSegment

import azeros.tiny
from azeros.params import LocalBackend, Mode, Pretrained, load_params
from azeros.sift.answers import TRUNCATED, Answer, answer_all
from azeros.sift.local import LocalLLM
from azeros.sift.profile import read_profile
from azeros.sift.prompts import render
from azeros.tiny.world import World

TINY = Path(azeros.tiny.__file__).parent / "weights" / "llm"
PARAMS = Path(__file__).parents[1] / "params.yaml"
MODES: tuple[Mode, ...] = get_args(Mode)
STATIC_BATCH = 200
MAX_NEW_TOKENS = 256


def utterances(num: int) -> list[SupervisionSegment]:
    """All different, of 1 to 12 sentences of the tiny world: lengths spread as in real corpora, about log-normally."""
    rng, world = random.Random(0), World()
    texts: dict[str, str] = {}
    while len(texts) < num:
        language = world.random_language(rng)
        count = max(1, min(12, round(rng.lognormvariate(0.8, 0.8))))
        text = " ".join(world.sentence(rng, language, "test").text for _ in range(count))
        texts[text] = language
    meta = world.meta_values
    return [
        SupervisionSegment(
            f"{index}", f"{index}", 0.0, 1.0, text=text, language=language, gender=rng.choice(meta["gender"]),
            custom={"age_group": rng.choice(meta["age"]), "emotion": rng.choice(meta["emotion"])},
        )
        for index, (text, language) in enumerate(texts.items())
    ]  # fmt: skip


def static_loop(llm: LocalLLM, prompts: list[str]) -> list[str]:
    """The answers of transformers' own generate(), batch by batch."""
    tokenizer, texts = llm.profile.tokenizer, []
    tokenizer.padding_side = "left"
    for start in range(0, len(prompts), STATIC_BATCH):
        inputs = tokenizer(prompts[start : start + STATIC_BATCH], return_tensors="pt", padding=True)
        with torch.inference_mode():
            out = llm.model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        texts += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def main() -> None:
    """Compare answers, then times, mode by mode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="which (default all)")
    parser.add_argument("--llm", default=str(TINY), help="folder of a language model (default the tiny one)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = load_params(PARAMS).sift
    assert isinstance(settings.backend, LocalBackend)
    llm = LocalLLM(
        read_profile(Pretrained(path=args.llm, revision=None)), MAX_NEW_TOKENS, settings.backend.batch_size
    )
    said = utterances(args.cuts)
    total_plain_s = total_ours_s = 0.0
    for mode in args.modes:
        prompts = [render(mode, supervision, settings).prompt for supervision in said]
        start = time.process_time()
        ours: list[Answer] = answer_all(llm, prompts, lambda count: None)
        ours_s = time.process_time() - start
        start = time.process_time()
        plain = static_loop(llm, prompts)
        plain_s = time.process_time() - start
        same = sum(
            answer.text.removesuffix(TRUNCATED) == text for answer, text in zip(ours, plain, strict=True)
        )
        if same != len(plain):
            raise SystemExit(f"{mode}: {len(plain) - same} of {len(plain)} answers differ")
        num_tokens = sum(answer.num_tokens for answer in ours)
        lengths = sorted(len(ids) for ids in llm.profile.encode(prompts))
        print(
            f"{mode:<9}prompts of {lengths[0]} to {lengths[-1]} tokens, {num_tokens / len(ours):.1f} tokens an answer; tokens a second: "
            f"static {num_tokens / plain_s:.0f}, ours {num_tokens / ours_s:.0f}: {plain_s / ours_s:.2f} times as fast",
            flush=True,
        )
        total_plain_s, total_ours_s = total_plain_s + plain_s, total_ours_s + ours_s
    print(
        f"all      {args.cuts} cuts, all answers equal, static {total_plain_s:.1f} s, ours {total_ours_s:.1f} s: "
        f"{total_plain_s / total_ours_s:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
