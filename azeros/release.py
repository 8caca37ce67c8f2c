"""The packaged model against the champion: registered, compared, and promoted if it wins and its origin is known.

A release is a folder `releases/<hash>` that holds the model and its card; `releases/champion` links to the one that is served.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.data.catalog import read_catalog
from azeros.data.licenses import verdict
from azeros.errors import StageError
from azeros.params import Params
from azeros.work import MODEL_CARD, git, hash_model, link_or_copy, stage_output, write_text

if TYPE_CHECKING:
    from azeros.registry import Version

RELEASES = Path("releases")
CHAMPION_LINK = RELEASES / "champion"
REPORT = Path("reports/model_card.md")
_MODEL = Path("models/azeros")
_METRICS = Path("reports/evaluate/metrics.json")
_NATS = "gap_divergence"  # no share
_LESS_IS_BETTER = ("repeat_wer", _NATS)
_CEILING = "text"  # the language model itself, given the transcript


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate."""

    version: int
    promoted: bool
    reason: str


def run(params: Params) -> Outcome:
    """Register the packaged model, and make it the champion if it is better than the present one.

    It wins if its figure (`release.system` and `release.metric`) is better than the champion's and the champion's is
    outside its 95 % interval, both on the same recordings, asked the same by the same language model; and if its origin
    is complete: a clean git tree, and a pipeline that is up to date.

    Raises:
        StageError: there is no packaged or no evaluated model, or MLflow's registry is out of reach.
    """
    from azeros.registry import Registry

    record = _record(params)
    registry = Registry(params.release.model)
    record["runs"] = registry.runs_of(record["model"])
    write_text(REPORT, card(record))
    known = {_identity(version.record): version for version in registry.versions()}
    champion = registry.champion()
    version = known.get(_identity(record)) or registry.add(_keep(record), record)
    _restore(version)
    if champion and champion.number == version.number:
        _link(version)
        return Outcome(version.number, False, "it is the champion already")
    promoted, reason = decide(record, champion.record if champion else None)
    if promoted:
        registry.promote(version)
        _link(version)
    return Outcome(version.number, promoted, reason)


def promote(params: Params, number: int) -> Path:
    """Make a registered version the champion, whatever its figures: by hand, or back to an earlier one.

    Raises:
        StageError: there is no such version, or its folder is gone or has changed.
    """
    version = find(params, str(number))
    folder = _folder(version)
    if not _restore(version):
        raise StageError(f"{folder}: the model of version {number} is gone or was changed: restore it")
    from azeros.registry import Registry

    Registry(params.release.model).promote(version)
    _link(version)
    return folder


def find(params: Params, which: str) -> Version:
    """A version by its number, by a run that made it (of MLflow or Prefect), by a folder that holds its model (packaged, or a
    bento), by the tag of a bento (`azeros:latest`), or the champion.

    Raises:
        StageError: there is none.
    """
    from azeros.registry import CHAMPION, Registry

    registry = Registry(params.release.model)
    versions = registry.versions()
    if which == CHAMPION:
        found = registry.champion()
    elif folder := _folder_of(which):
        bento = folder / "src" / _MODEL
        model = hash_model(bento if bento.is_dir() else folder)
        found = next((v for v in reversed(versions) if v.record.get("model") == model), None)
    else:
        found = next((v for v in versions if which in (str(v.number), *_runs(v))), None)
    if found is None:
        numbers = ", ".join(str(version.number) for version in versions) or "none"
        raise StageError(f"no version {which} of {registry.name} is registered; there are: {numbers}")
    return found


def _folder_of(which: str) -> Path | None:
    """A folder, or that of a bento by its tag; None for whatever else."""
    if not which.isdigit() and Path(which).is_dir():
        return Path(which)
    if not re.fullmatch(r"[\w.-]+:[\w.-]+", which) or which.startswith("prefect:"):
        return None
    try:
        import bentoml
    except ModuleNotFoundError as error:
        raise StageError(f"{which}: the tag of a bento wants BentoML: pip install 'azeros[serve]'") from error
    try:
        return Path(bentoml.get(which).path)
    except bentoml.exceptions.NotFound as error:
        raise StageError(f"{which}: no such bento; `bentoml list` names them") from error


def _runs(version: Version) -> Iterator[str]:
    """Runs that made a version; a Prefect run by its bare id, too."""
    for run in version.record["runs"].values():
        yield run
        yield run.removeprefix("prefect:")


def decide(challenger: dict[str, Any], champion: dict[str, Any] | None) -> tuple[bool, str]:
    """Whether the record of a challenger beats that of the champion, and why or why not."""
    if problems := challenger["problems"]:
        return False, f"its origin is not complete: {'; '.join(problems)}"
    if champion is None:
        return True, "it is the first"
    for otherwise, value in _measured(champion).items():
        if _measured(challenger)[otherwise] != value:
            return (
                False,
                f"the champion was measured {otherwise}: evaluate both alike, or promote by hand",
            )
    ours, theirs = challenger["figure"], champion["figure"]["value"]
    metric = challenger["metric"]
    said = f"{metric} {ours['value']:.3f} [{ours['low']:.3f}, {ours['high']:.3f}] against {theirs:.3f}"
    less_is_better = metric.split()[-1] in _LESS_IS_BETTER
    if ours["high"] < theirs if less_is_better else ours["low"] > theirs:
        return True, f"{said}: better beyond its interval"
    return False, f"{said}: not better beyond its interval"


def _measured(record: dict[str, Any]) -> dict[str, Any]:
    """What two figures must share to be compared, by what is said if they do not."""
    return {
        "by another metric": record["metric"],
        "by another language model": record["foundation"]["llm"],  # whose own answers `plain` is held to
        "on other data": record["data"],
        "with other settings of evaluate": record.get("asked"),
    }


def lineage(params: Params, which: str) -> list[tuple[str, str, str]]:
    """The way back from a version: rows of what, its identity, and whether it is at hand (`here`, `changed`, `not here`).

    Files are hashed, by DVC, which remembers those that nobody has touched since.

    Raises:
        StageError: there is no such version, or DVC cannot say what is here.
    """
    from azeros.registry import Registry

    version = find(params, which)
    record = version.record
    registry = Registry(params.release.model)
    whole = "here" if _is_whole(version) else "not here or changed"
    rows = [(f"version {version.number}", str(_folder(version)), whole)]
    commit = record["commit"] or "none"
    rows.append(("git commit", commit, "here" if git("cat-file", "-t", commit) else "not here"))
    for name, source in _sources(record).items():
        pinned = record["foundation"][name]["revision"] is not None
        here = "here" if Path(source).exists() else "not here"
        rows.append((name, source, "pinned by its revision" if pinned else here))
    rows += [(f"corpus {name}", recipe, "") for name, recipe in record["corpora"].items()]
    touched = _touched(_stale())
    now = {path: digest for path, digest in _outs(_locked()).items() if path not in touched}
    for name, run in record["runs"].items():
        is_run = name.startswith("MLflow")
        rows.append((name, run, "" if not is_run else "here" if registry.has_run(run) else "not here"))
    for path, digest in record["outs"].items():
        state = "not here" if not Path(path).exists() else "here" if now.get(path) == digest else "changed"
        rows.append((path, digest, state))
    return rows


def _record(params: Params) -> dict[str, Any]:
    """What the packaged model was made from and what was measured."""
    for path in (_MODEL, _METRICS):
        if not path.exists():
            raise StageError(f"{path}: not there: run `dvc repro` first")
    figures = json.loads(_METRICS.read_text(encoding="utf-8"))
    system, metric = params.release.system, params.release.metric
    try:
        figure = figures[system][metric]
    except KeyError:
        choice = ", ".join(f"{s}: {' '.join(found)}" for s, found in figures.items())
        raise StageError(
            f"{_METRICS}: no {metric} of {system} for params.yaml, release; there are {choice}"
        ) from None
    stages = _locked()
    outs = _outs(stages)
    return {
        "model": hash_model(_MODEL),
        "metric": f"{system} {metric}",
        "figure": figure,
        "figures": figures[system],
        "ceiling": figures.get(_CEILING, {}),
        "heard": {"corpora": params.evaluate.corpora, "languages": sorted(params.evaluate.instructions)},
        "asked": params.evaluate.model_dump(mode="json", include={"instructions", "max_new_tokens"}),
        "data": {path: outs.get(path) for path in (f"data/manifests/{c}" for c in params.evaluate.corpora)},
        "outs": outs,
        "foundation": params.foundation.model_dump(mode="json"),
        "corpora": _corpora(params),
        "commit": git("rev-parse", "HEAD"),
        "problems": _problems(),
    }


def _corpora(params: Params) -> dict[str, str]:
    """Corpus -> its recipe, of those that the training sets are made from."""
    trained = {*params.train.stage1.sets, *params.train.stage2.sets}
    names = sorted({params.sift.sets[name].corpus for name in trained})
    return {name: params.corpora[name].recipe for name in names}


def _problems() -> list[str]:
    """Why nobody could make this model again."""
    problems = []
    changed = git("diff", "--name-only", "HEAD", "--", ".", ":!dvc.lock")  # whose hashes the record holds
    new = git("ls-files", "--others", "--exclude-standard", "--", *_deps(_locked()))
    if changed is None:
        problems.append("there is no git commit")
    elif files := [*changed.splitlines(), *(new or "").splitlines()]:
        problems.append(f"uncommitted changes in {', '.join(files[:3])}{' ...' if len(files) > 3 else ''}")
    if stale := _stale():
        problems.append(f"the pipeline is not up to date ({', '.join(sorted(stale)[:3])}): run dvc repro")
    return problems


def _stale() -> dict[str, Any]:
    """Stage -> what DVC finds changed since it ran.

    Raises:
        StageError: DVC fails.
    """
    status = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True)
    if status.returncode != 0:
        raise StageError(f"dvc status fails: {status.stderr.strip()}")
    stale: dict[str, Any] = json.loads(status.stdout)
    return stale


def _touched(stale: dict[str, Any]) -> set[str]:
    """The outputs that are not as their stage left them."""
    found = (change for changes in stale.values() for change in changes if isinstance(change, dict))
    return {path for change in found for path in change.get("changed outs", {})}


def _identity(record: dict[str, Any]) -> tuple[str, ...]:
    """Equal for the same model of the same origin, which is registered once."""
    return (record["model"], record["commit"] or "", *record["problems"])


def _keep(record: dict[str, Any]) -> Path:
    """A copy of the packaged model with its card, under the hash of its content; files are linked where that can be."""
    folder = RELEASES / str(record["model"])[:16]
    with stage_output(folder) as draft:
        shutil.copytree(_MODEL, draft, dirs_exist_ok=True, copy_function=link_or_copy)
        (draft / MODEL_CARD).write_text(card(record), encoding="utf-8")
    return folder


def card(record: dict[str, Any]) -> str:
    """The model card, in the form that the hub shows."""
    rows = [
        f"| {name} | {_cell(f)} | {_cell(record['ceiling'].get(name))} | {f['count']} |"
        for name, f in record["figures"].items()
        if name != _NATS
    ]
    heard = record["heard"]
    foundation = [f"- {name}: `{source}`" for name, source in _sources(record).items()]
    catalog = read_catalog().corpora
    terms = [
        f"- {name}: {catalog[recipe].title}, {catalog[recipe].license}"
        for name, recipe in record["corpora"].items()
    ]
    outs = [f"| `{path}` | `{digest}` |" for path, digest in record["outs"].items()]
    return "\n".join([
        "---", "library_name: azeros", "pipeline_tag: audio-text-to-text", "---", "",
        "# A speech LLM made by azeros", "",
        "Two projectors, trained on a frozen language model's own answers, let it hear. Load it with",
        "`AZerosModel.from_pretrained`.", "",
        "## Figures", "", "On held-out recordings, in %, with 95 % intervals; beside it the language model itself, given the transcript.", "",
        "| | hears | reads | n |", "|---|---:|---:|---:|", *rows, "",
        "## Limits", "", "What it does not reach of the column `reads`, hearing loses. Measured were recordings of "
        f"{', '.join(heard['corpora'])}, questions in {', '.join(heard['languages'])}: of other speech nothing is known.", "",
        "## Frozen models", "", *foundation, "", "Their own terms hold too.", "",
        "## Data", "", *terms, "", verdict(record["corpora"].values()), "",
        "## Origin", "", f"Commit `{record['commit']}`.", *(f"{what} `{run}`." for what, run in record["runs"].items()),
        *(f"Not reproducible: {p}." for p in record["problems"]), "",
        "| file | md5 |", "|---|---|", *outs, "",
    ])  # fmt: skip


def _cell(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    return f"{100 * figure['value']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def _sources(record: dict[str, Any]) -> dict[str, str]:
    """Frozen model -> its path or hub id, and the revision that pins it."""
    given = {name: source for name, source in record["foundation"].items() if source}
    return {name: " ".join(filter(None, (s["path"], s["revision"]))) for name, s in given.items()}


def _folder(version: Version) -> Path:
    """Where the version is kept here; the registry says where it was on the machine that made it."""
    return RELEASES / version.folder.name


def _is_whole(version: Version) -> bool:
    """Whether the version's folder holds what was registered."""
    folder = _folder(version)
    return folder.is_dir() and hash_model(folder) == version.record.get("model")


def _restore(version: Version) -> bool:
    """Whether the version's folder is whole, or could be made again of the packaged model."""
    if _is_whole(version):
        return True
    if not _MODEL.is_dir() or hash_model(_MODEL) != version.record.get("model"):
        return False
    _keep(version.record)
    return True


def _link(version: Version) -> None:
    """Point `releases/champion` to the version; whoever reads it sees the old or the new one."""
    draft = RELEASES / ".champion.partial"
    draft.unlink(missing_ok=True)
    draft.symlink_to(version.folder.name)
    draft.replace(CHAMPION_LINK)


def _locked() -> dict[str, Any]:
    from ruamel.yaml import YAML

    path = Path("dvc.lock")
    if not path.exists():
        raise StageError("dvc.lock is not there: run this where dvc.yaml is, after `dvc repro`")
    return dict(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))["stages"])


def _outs(stages: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def _deps(stages: dict[str, Any]) -> set[str]:
    """What the stages read of this repository; of what lies elsewhere git knows nothing."""
    paths = {dep["path"] for stage in stages.values() for dep in stage.get("deps", [])}
    return {path for path in paths if Path(path).resolve().is_relative_to(Path.cwd())}
