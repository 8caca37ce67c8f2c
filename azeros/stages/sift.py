"""Stage `sift`: the frozen language model answers each transcript: the targets of training."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from azeros.data.licenses import require_commercial
from azeros.data.manifests import cuts_path, open_cuts, read_cuts
from azeros.errors import ManifestError, StageError
from azeros.params import Params, SiftSet
from azeros.progress import track
from azeros.sift.accounts import Accounts, check_rows
from azeros.sift.selection import Rejected, select
from azeros.sift.shards import WHOLE, Shard, blocks
from azeros.tracking import stage_run
from azeros.work import hash_files, stage_output, work_dir, write_json

if TYPE_CHECKING:
    from azeros.sift.profile import LLMProfile
    from azeros.sift.targets import Target, TargetMaker

logger = logging.getLogger(__name__)

_NUM_PREVIEWED = 3


def run(params: Params, targets: str, manifests: Path, output: Path, shard: Shard | None = None) -> None:
    """Make the set `targets`, a name in params.sift.sets, of the cuts in `manifests`, in the folder `output`.

    It gets cuts.jsonl.gz, the cuts in the order of the manifest with their targets; report.json; rejects.jsonl,
    which names each rejected row. A killed run goes on after the last batch that it finished, to the same bytes.
    Given a `shard`, only the answers of this part are made, and kept in .work for a run without one, which gathers.

    Raises:
        StageError: no such set in params, or the manifest changes meanwhile.
        EndpointError: the language model's server fails; what was finished is kept.
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
    settings = {
        "set": wanted,
        "llm": params.foundation.llm,
        "filter": params.filter,
        "sift": params.sift.model_dump(exclude={"sets"}),
    }
    manifest = cuts_path(manifests, wanted.split)
    if shard:
        _run_shard(params, targets, manifest, shard)
        return
    with stage_run(f"sift@{targets}", settings) as tracked, stage_output(output) as draft:
        maker, num_rows = _make_maker(params, wanted, manifest, WHOLE)
        digest = hash_files([manifest])
        work = _work_dir(maker, digest)
        with track(f"sift {targets}", num_rows) as advance:
            accounts, shown = _write(maker, manifest, work, draft, advance, num_rows // _NUM_PREVIEWED)
        if hash_files([manifest]) != digest:
            raise StageError(f"{manifest}: changed while it was read; run the same command again")
        check_rows(manifest, draft / "cuts.jsonl.gz", draft / "rejects.jsonl")
        if not accounts.rows_out:
            raise _nothing_left(manifest, accounts)
        report = accounts.to_dict()
        write_json(draft / "report.json", report)
        tracked.set_summary({key: value for key, value in report.items() if isinstance(value, int | float)})
        tracked.log_artifact(draft / "report.json")
        tracked.log_table("preview", [_preview(target) for target in shown])
    shutil.rmtree(work)
    _show(output, accounts, shown)


def _run_shard(params: Params, targets: str, manifest: Path, shard: Shard) -> None:
    maker, num_rows = _make_maker(params, params.sift.sets[targets], manifest, shard)
    work = _work_dir(maker, hash_files([manifest]))
    with track(f"sift {targets} {shard}", num_rows) as advance:
        maker.make_shard(read_cuts(manifest), work, advance, shard)
    logger.info("%d rows of shard %s are answered; `dvc repro sift@%s` gathers", num_rows, shard, targets)


def _make_maker(params: Params, wanted: SiftSet, manifest: Path, shard: Shard) -> tuple[TargetMaker, int]:
    """What makes the targets, and the number of rows that it is to ask about."""
    from azeros.sift.answers import make_backend
    from azeros.sift.profile import read_profile
    from azeros.sift.targets import TargetMaker

    profile = read_profile(params.foundation.llm)
    num_rows = _look_ahead(manifest, wanted, params, profile, shard)
    backend = None if wanted.mode == "tsit_s" else make_backend(profile, params.sift)
    return TargetMaker(wanted.mode, params, profile, backend), num_rows


def _work_dir(maker: TargetMaker, digest: str) -> Path:
    return work_dir("sift", {"manifest": digest, "maker": maker.key})


def _look_ahead(manifest: Path, wanted: SiftSet, params: Params, profile: LLMProfile, shard: Shard) -> int:
    """The number of rows to ask about; whatever is wrong with the manifest is said before anything is generated."""
    outcomes = Accounts()
    num_rows = num_asked = 0
    for number, block in enumerate(blocks(read_cuts(manifest))):
        for cut in block:
            selected = select(cut, wanted.mode, params, profile)
            if isinstance(selected, Rejected):
                outcomes.add(selected)
            else:
                num_rows += 1
                num_asked += shard.has(number)
    if not num_rows:
        raise _nothing_left(manifest, outcomes)
    return num_asked


def _nothing_left(manifest: Path, accounts: Accounts) -> ManifestError:
    return ManifestError(
        f"{manifest}: none of its {accounts.rows_in} rows can be used ({accounts.rejections() or 'it is empty'}); "
        "see filter and sift.unusable"
    )


def _write(
    maker: TargetMaker,
    manifest: Path,
    work: Path,
    draft: Path,
    advance: Callable[[int], object],
    show_every: int,
) -> tuple[Accounts, list[Target]]:
    """Write targets and rejects; returns their counts and a few targets from all over the set."""
    accounts = Accounts()
    shown: list[Target] = []
    with (
        open_cuts(draft / "cuts.jsonl.gz") as write,
        (draft / "rejects.jsonl").open("w", encoding="utf-8") as rejects,
    ):
        for outcome in maker.make(read_cuts(manifest), work, advance):
            accounts.add(outcome)
            if isinstance(outcome, Rejected):
                rejects.write(json.dumps(vars(outcome), ensure_ascii=False) + "\n")
                continue
            write(outcome.cut)
            if len(shown) < _NUM_PREVIEWED and accounts.rows_out > len(shown) * show_every:
                shown.append(outcome)
    return accounts, shown


def _preview(target: Target) -> dict[str, str]:
    return {
        "id": target.cut.id,
        "input_text": target.prompt.user_text,
        "response": target.answer.text,
    }


def _show(output: Path, accounts: Accounts, shown: list[Target]) -> None:
    rejections = accounts.rejections()
    logger.info(
        "%s: %d of %d rows, %.1f tokens a response, %d truncated%s",
        output,
        accounts.rows_out,
        accounts.rows_in,
        accounts.response_tokens / accounts.rows_out,
        accounts.truncated,
        f"; rejected: {rejections}" if rejections else "",
    )
    if accounts.unreadable_ages:
        logger.warning("%s: %d ages are no numbers and count as unknown", output, accounts.unreadable_ages)
    for target in shown:
        logger.info("  %s  %s\n           -> %s", target.cut.id, target.prompt.user_text, target.answer.text)
