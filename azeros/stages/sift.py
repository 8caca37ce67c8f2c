"""Stage `sift`: the frozen language model answers each transcript: the targets of training."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.data.licenses import require_commercial
from azeros.data.manifests import cut_text, cuts_path, read_cuts, supervision_of, unfit, write_cuts
from azeros.errors import ManifestError, StageError
from azeros.params import Mode, Params, Pretrained
from azeros.progress import track
from azeros.sift.prompts import Prompt, render
from azeros.tracking import stage_run
from azeros.work import hash_files, stage_output, work_dir, write_json

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from azeros.sift.targets import Answer, LocalLLM

logger = logging.getLogger(__name__)

_NUM_PREVIEWED = 3


@dataclass(frozen=True)
class _Rejected:
    id: str
    reason: str
    detail: str


def run(params: Params, targets: str, manifests: Path, output: Path) -> None:
    """Make the set `targets`, a name in params.sift.sets, of the cuts in `manifests`, in the folder `output`.

    It gets cuts.jsonl.gz, the cuts in the order of the manifest with response, instruction, input_text and
    from_model beside their transcripts; report.json; rejects.jsonl naming each rejected row. A killed run
    goes on after the last batch that it finished, to the same bytes.

    Raises:
        StageError: no such set in params.
        CorpusError: the weights are to be sold, and the corpus does not allow it.
        ParamsError: an instruction is missing for a language.
        ManifestError: the manifest is missing or damaged, or none of its rows can be used.
        ModelError: the language model does not load.
    """
    if targets not in params.sift.sets:
        raise StageError(
            f"params.yaml: no '{targets}' in sift.sets; there are: {', '.join(params.sift.sets)}"
        )
    wanted = params.sift.sets[targets]
    if params.commercial:
        require_commercial(params.corpora[wanted.corpus].recipe)
    settings = {"set": wanted, "llm": params.foundation.llm, "filter": params.filter} | {
        "sift": params.sift.model_dump(exclude={"sets"})
    }
    manifest = cuts_path(manifests, wanted.split)
    with stage_run(f"sift@{targets}", settings) as tracked, stage_output(output) as draft:
        fit, rejects = _select(manifest, wanted.mode, params)
        llm = _load_llm(params)
        rows = _without_special_tokens(fit, llm, rejects)
        if not rows:
            raise ManifestError(
                f"{manifest}: none of its {len(rejects)} rows can be used ({_counts(rejects)}); see filter"
            )
        work = work_dir("sift", _key([prompt for _, prompt in rows], params))
        answers = _answer(llm, rows, work, params, targets)
        cuts = [_with_target(cut, p, a, params) for (cut, p), a in zip(rows, answers, strict=True)]
        write_cuts(cuts, draft / "cuts.jsonl.gz")
        report = _report(rows, answers, rejects)
        _check_accounts(report, draft, manifest)
        write_json(draft / "report.json", report)
        _write_rejects(draft / "rejects.jsonl", rejects)
        tracked.set_summary({key: value for key, value in report.items() if isinstance(value, int | float)})
        tracked.log_artifact(draft / "report.json")
        tracked.log_table("preview", [_preview(p, a) for (_, p), a in _spread(rows, answers)])
    shutil.rmtree(work)
    _show(output, report, rows, answers)


def _select(manifest: Path, mode: Mode, params: Params) -> tuple[list[tuple[Cut, Prompt]], list[_Rejected]]:
    """The rows to ask about, and those that the filter keeps out."""
    rows: list[tuple[Cut, Prompt]] = []
    rejects: list[_Rejected] = []
    for cut in read_cuts(manifest):
        reason = unfit(cut.duration, cut_text(cut), params.filter, strict=True)
        if reason:
            rejects.append(
                _Rejected(cut.id, reason, f"{cut.duration:.2f} s, {len(cut_text(cut))} characters")
            )
        else:
            rows.append((cut, render(mode, supervision_of(cut), params.sift)))
    return rows, rejects


def _load_llm(params: Params) -> LocalLLM:
    from azeros.sift.targets import LocalLLM

    return LocalLLM(params.foundation.llm, params.sift.max_new_tokens)


def _without_special_tokens(
    rows: list[tuple[Cut, Prompt]], llm: LocalLLM, rejects: list[_Rejected]
) -> list[tuple[Cut, Prompt]]:
    """`rows` without those whose transcript would be read as control tokens; these join `rejects`."""
    kept = []
    for cut, prompt in rows:
        token = llm.special_token_in(prompt.input_text)
        if token:
            rejects.append(
                _Rejected(cut.id, "special token in the text", f"{token} in {prompt.input_text!r}")
            )
        else:
            kept.append((cut, prompt))
    return kept


def _key(prompts: list[Prompt], params: Params) -> dict[str, Any]:
    """What the answers depend on: unfinished work of one key never meets that of another."""
    import torch
    import transformers

    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(f"{len(prompt.prompt)}:{prompt.prompt}".encode())
    return {
        "prompts": digest.hexdigest(),
        "llm": _identity(params.foundation.llm),
        "max_new_tokens": params.sift.max_new_tokens,
        "batch_size": params.sift.batch_size,
        "versions": [torch.__version__, transformers.__version__],
        "gpu": torch.cuda.is_available(),
    }


def _identity(llm: Pretrained) -> str:
    folder = Path(llm.path)
    return hash_files([folder]) if folder.is_dir() else f"{llm.path}@{llm.revision}"


def _answer(
    llm: LocalLLM, rows: list[tuple[Cut, Prompt]], work: Path, params: Params, targets: str
) -> list[Answer]:
    from azeros.sift.targets import answer_all

    prompts = [prompt.prompt for _, prompt in rows]
    with track(f"sift {targets}", len(prompts)) as advance:
        return answer_all(llm, prompts, params.sift.batch_size, work / "answers.jsonl", advance)


def _with_target(cut: Cut, prompt: Prompt, answer: Answer, params: Params) -> Cut:
    from lhotse.utils import fastcopy

    supervision = supervision_of(cut)
    target = {
        "response": answer.text,
        "instruction": prompt.instruction,
        "input_text": prompt.user_text,
        "from_model": params.foundation.llm.path,
    }
    supervision = fastcopy(supervision, custom=(supervision.custom or {}) | target)
    return fastcopy(cut, supervisions=[supervision])


def _report(
    rows: list[tuple[Cut, Prompt]], answers: list[Answer], rejects: list[_Rejected]
) -> dict[str, Any]:
    return {
        "rows_in": len(rows) + len(rejects),
        "rows_out": len(rows),
        "rejected": dict(Counter(reject.reason for reject in rejects)),
        "truncated": sum(answer.truncated for answer in answers),
        "response_tokens": sum(answer.num_tokens for answer in answers),
        "hours": round(sum(cut.duration for cut, _ in rows) / 3600, 6),
    }


def _check_accounts(report: dict[str, Any], draft: Path, manifest: Path) -> None:
    """Count what was really read and written: every row that came in has gone out or is named as rejected."""
    num_in, num_out = len(read_cuts(manifest)), len(read_cuts(draft / "cuts.jsonl.gz"))
    if num_in != num_out + sum(report["rejected"].values()):
        raise StageError(
            f"{manifest}: {num_in} rows in, {num_out} out, {report['rejected']} rejected; run it again"
        )


def _write_rejects(path: Path, rejects: list[_Rejected]) -> None:
    lines = (json.dumps(vars(reject), ensure_ascii=False) + "\n" for reject in rejects)
    path.write_text("".join(lines), encoding="utf-8")


def _counts(rejects: list[_Rejected]) -> str:
    counts = Counter(reject.reason for reject in rejects)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "it is empty"


def _spread(rows: list[tuple[Cut, Prompt]], answers: list[Answer]) -> list[tuple[tuple[Cut, Prompt], Answer]]:
    """A few rows from all over the set."""
    step = max(1, len(rows) // _NUM_PREVIEWED)
    return list(zip(rows, answers, strict=True))[::step][:_NUM_PREVIEWED]


def _preview(prompt: Prompt, answer: Answer) -> dict[str, str]:
    return {"id": prompt.id, "input_text": prompt.user_text, "response": answer.text}


def _show(
    output: Path, report: dict[str, Any], rows: list[tuple[Cut, Prompt]], answers: list[Answer]
) -> None:
    rejected = "".join(f"; {count} rejected: {reason}" for reason, count in report["rejected"].items())
    mean = report["response_tokens"] / report["rows_out"]
    logger.info(
        "%s: %d of %d rows, %.1f tokens a response, %d truncated%s",
        output,
        report["rows_out"],
        report["rows_in"],
        mean,
        report["truncated"],
        rejected,
    )
    for (_, prompt), answer in _spread(rows, answers):
        logger.info("  %s  %s\n           -> %s", prompt.id, prompt.user_text, answer.text)
