"""Re-score a file of responses, from whatever harness, as the official scripts do, and say how much of it is luck."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from azeros.errors import BenchmarkError
from azeros.evaluation.airbench import chat, foundation
from azeros.evaluation.airbench.data import NUM_FOUNDATION
from azeros.evaluation.responses import Benchmark, Response, count_repeats, read_responses
from azeros.evaluation.summary import PartRatios, Scored, summarise
from azeros.evaluation.tally import Item, failed
from azeros.evaluation.voicebench import bbh, harm, ifeval, mcq, open_ended, qa
from azeros.evaluation.voicebench.data import SPLITS
from azeros.evaluation.voicebench.panda import Panda

SEED = 0  # of the guesses and of the bootstrap; the official scripts set none

_EVALUATORS = {
    "alpacaeval": "open",
    "alpacaeval_full": "open",
    "commoneval": "open",
    "wildvoice": "open",
    "sd-qa": "qa",
    "bbh": "bbh",
    "advbench": "harm",
    "ifeval": "ifeval",
    "openbookqa": "mcq",
    "mmsu": "mcq",
}
_READS_NULL = (
    "open",
    "chat",
    "foundation",
)  # scored by the judgement, or by a script that takes whatever stands there
# The sets of either benchmark: the evaluator and the number of rows. The evaluators of VoiceBench follow by their own
# names, for other data in its layout.
SUBSETS: dict[Benchmark, dict[str, tuple[str, int | None]]] = {
    "voicebench": {
        **{subset: (evaluator, sum(SPLITS[subset].values())) for subset, evaluator in _EVALUATORS.items()},
        **{evaluator: (evaluator, None) for evaluator in ("open", "qa", "harm", "mcq")},
    },
    "airbench": {"foundation": ("foundation", sum(NUM_FOUNDATION.values())), "chat": ("chat", None)},
}


def score_file(
    benchmark: Benchmark,
    subset: str,
    path: Path,
    *,
    items: Path | None = None,
    panda_weights: Path | None = None,
    exchanged: Path | None = None,
) -> dict[str, Any]:
    """The figures of a file, as plain values.

    Args:
        benchmark: voicebench or airbench.
        subset: a key of SUBSETS[benchmark].
        path: the responses, judged if the set has a judge.
        items: where to write what each row of `path` got, a JSON object a line.
        panda_weights: folder with PANDA's arrays, for sd-qa.
        exchanged: the judge's second pass over AIR-Bench Chat, with the answers exchanged.

    Raises:
        BenchmarkError: no such set, or a file or a row is not what it should be.
    """
    evaluator, num_rows = _find(benchmark, subset)
    rows = read_responses(path)
    second = read_responses(exchanged) if exchanged else []
    if exchanged and evaluator != "chat":
        raise BenchmarkError(
            f"{exchanged}: only airbench chat has a pass with the answers exchanged; leave it out"
        )
    scored = _score_all(evaluator, rows, second, panda_weights)
    if items:
        _write_items(items, scored.items[: len(rows)])
    return {
        "benchmark": benchmark,
        "subset": subset,
        "file": path.as_posix(),
        "seed": SEED,
        **summarise(scored, [*rows, *second], SEED),
        "num_rows_of_set": num_rows,
        "unanswered": sum(_is_unanswered(row) for row in [*rows, *second]),
        "repeated": sum(count_repeats(row.fields for row in file) for file in (rows, second)),
    }


def needs_judge(subset: str) -> bool:
    """Whether the official figure of a set, or a part of it, is a judge's."""
    return any(sets.get(subset, ("",))[0] in ("open", "qa", "chat") for sets in SUBSETS.values())


def unjudged(benchmark: Benchmark, path: Path, subset: str) -> dict[str, Any]:
    """The figures of responses that no judge has seen: none, and why."""
    rows = read_responses(path)
    why = "no judge was asked: azeros judge, or benchmark.judged in params.yaml"
    return {
        "benchmark": benchmark,
        "subset": subset,
        "file": path.as_posix(),
        **dict.fromkeys(("official", "interval", "strict", "strict_interval", "expected")),
        "official_absent": why,
        "n": len(rows),
        "num_rows_of_set": _find(benchmark, subset)[1],
        "unanswered": sum(map(_is_unanswered, rows)),
        "repeated": count_repeats(row.fields for row in rows),
    }


def _find(benchmark: Benchmark, subset: str) -> tuple[str, int | None]:
    if subset not in SUBSETS[benchmark]:
        raise BenchmarkError(f"{benchmark} has no set '{subset}'; it has {', '.join(SUBSETS[benchmark])}")
    return SUBSETS[benchmark][subset]


def _write_items(path: Path, items: Sequence[Item]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(item.fields, ensure_ascii=False) + "\n" for item in items)
    except OSError as error:
        raise BenchmarkError(f"{path}: {error.strerror}; give another path to --items") from error


def _is_unanswered(row: Response) -> bool:
    """The system failed on it: the response is null, and `error` may say why."""
    return row.fields.get("response", "") is None


def _score_all(
    evaluator: str, rows: Sequence[Response], exchanged: Sequence[Response], panda_weights: Path | None
) -> Scored:
    """As officially, but for rows without a response, on which most official scripts raise: strictly they count as wrong."""
    if evaluator in _READS_NULL or not any(map(_is_unanswered, rows)):
        return _score(evaluator, rows, exchanged, panda_weights)
    silenced = [
        replace(row, fields={**row.fields, "response": ""}) if _is_unanswered(row) else row for row in rows
    ]
    scored = _score(evaluator, silenced, exchanged, panda_weights)
    items = [
        failed("AttributeError", tuple((0.0, weight) for _, weight in item.strict))
        if _is_unanswered(row)
        else item
        for row, item in zip(rows, scored.items, strict=True)
    ]
    return replace(scored, items=items)


def _score(
    evaluator: str, rows: Sequence[Response], exchanged: Sequence[Response], panda_weights: Path | None
) -> Scored:
    match evaluator:
        case "open":
            return Scored(open_ended.score(rows), ("gpt",), 1.0, dict)
        case "harm":
            return Scored(harm.score(rows), ("refusal_rate",), 100.0, dict)
        case "mcq":
            return _score_mcq(rows)
        case "bbh":
            return Scored(bbh.score(rows, SEED), ("acc",), 100.0, _in_percent)
        case "ifeval":
            return Scored(ifeval.score(rows, SEED), ifeval.PARTS, 100.0, ifeval.official_result)
        case "qa":
            return _score_qa(rows, panda_weights)
        case "foundation":
            items = foundation.score(rows)
            columns = tuple(foundation.COLUMNS)
            return Scored(items, columns, 100.0, lambda _: foundation.official_result(rows, items))
        case _:
            return _score_chat(rows, exchanged)


def _in_percent(ratios: PartRatios) -> dict[str, Any]:
    return {name: 100 * ratio for name, ratio in ratios.items()}


def _score_mcq(rows: Sequence[Response]) -> Scored:
    items = mcq.score(rows, SEED)
    fail = 100 * sum(item.fallbacks for item in items) / len(items)
    return Scored(items, ("acc",), 100.0, lambda ratios: {**_in_percent(ratios), "fail": fail})


def _score_qa(rows: Sequence[Response], panda_weights: Path | None) -> Scored:
    panda = Panda.load(panda_weights) if panda_weights else None
    judged = any("score" in row.fields for row in rows)
    absent = []
    if not panda:
        absent.append("PANDA: run azeros panda-weights data/panda, then give --panda-weights data/panda")
    if not judged:
        absent.append("the judge's vote: no row has a 'score'")
    if not panda and not judged:
        raise BenchmarkError(f"{rows[0].path}: nothing to score by; absent are {'; '.join(absent)}")
    parts = (("panda",) if panda else ()) + (("gpt",) if judged else ())
    digest = {"panda_weights_sha256": panda.digest} if panda else {}
    return Scored(
        qa.score(rows, SEED, panda, judged),
        parts,
        100.0,
        lambda ratios: {**_in_percent(ratios), **digest},
        f"absent is {absent[0]}" if absent else None,
    )


def _score_chat(rows: Sequence[Response], exchanged: Sequence[Response]) -> Scored:
    """One pass alone, or the official final score: the mean of the model's means in the two passes."""
    if not exchanged:
        which = chat.pass_of(rows[0].path.name)
        items = chat.score(rows, which)
        return Scored(items, (which,), 1.0, lambda _: chat.official_result(items, which))
    passes = {
        which: chat.score(file, which, chat.PASSES)
        for which, file in zip(chat.PASSES, (rows, exchanged), strict=True)
    }
    return Scored(
        [item for items in passes.values() for item in items],
        chat.PASSES,
        1.0,
        lambda _: {which: chat.official_result(items, which) for which, items in passes.items()},
    )
