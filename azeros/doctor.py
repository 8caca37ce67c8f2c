"""`azeros doctor`: what this machine has of what the pipeline and its tools need, each thing really tried."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from azeros.params import Params, Pretrained

_WORK_GB = 2.0  # what `dvc repro` of the tiny world writes, its cache and MLflow's store, twice over
_PATIENCE_S = 5.0  # for each thing at the other end of a network
_GB = 1e9

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    status: Literal["ok", "absent", "missing"]
    """`missing`: the pipeline of these settings needs it; `absent`: something else does."""
    check: str
    message: str


@dataclass(frozen=True)
class _Check:
    name: str
    look: Callable[[], str]
    """Says what is there; raises what is not."""
    purpose: str
    """What needs it."""
    is_needed: bool = False
    """By the pipeline of these settings."""


class _Absent(Exception):
    """Something is not there; the message says what, and how to get it."""


def examine(settings: Params) -> Iterator[Finding]:
    """Try everything, one after the other; whatever goes wrong with one is a finding about it."""
    for check in _checks(settings):
        try:
            yield Finding("ok", check.name, check.look())
        except Exception as error:  # every library has errors of its own
            reason = " ".join(str(error).split())
            if not isinstance(error, _Absent):
                reason = f"{type(error).__name__}: {reason}"
            status: Literal["absent", "missing"] = "missing" if check.is_needed else "absent"
            yield Finding(status, check.name, f"{reason} (needed for {check.purpose})")


def _checks(settings: Params) -> list[_Check]:
    foundation = settings.foundation
    models = [foundation.llm, foundation.speech_encoder, foundation.paraling_encoder]
    from_hub = [model for model in models if model and not Path(model.path).is_dir()]
    spoken = [*settings.corpora.values(), *dict(settings.benchmark.data).values()]
    speaks = any(data.recipe == "tiny" for data in spoken)
    return [
        _Check("Python", _python, "everything", True),
        _Check("packages", partial(_packages, "train"), "the stages: dvc repro", True),
        _Check("torch", _torch, "the stages: dvc repro", True),
        _Check("commands", _commands, "the stages: dvc.yaml names both", True),
        _Check("disk", _disk, "data, models and their cache", True),
        _Check("espeak-ng", _espeak, "the speech of the tiny world", speaks),
        _Check("data", partial(_data, settings), "prepare and benchmark: their paths in params.yaml", True),
        _Check("hub", partial(_hub, from_hub), "models by hub id", bool(from_hub)),
        _Check("GPU", _gpu, "language models of billions of parameters; the tiny world needs none"),
        _Check("FFmpeg", _ffmpeg, "m4a, mp4, aac, wma and webm; other recordings are read without"),
        _Check("flows", partial(_packages, "flows"), "Prefect's flows: python -m flows.pipeline"),
        _Check("serve", partial(_packages, "serve"), "the service: bentoml serve"),
        _Check("onnx", partial(_packages, "onnx"), "azeros export"),
        _Check("dev", partial(_packages, "dev"), "make check, make test"),
        _Check("DVC remote", _dvc_remote, "dvc push and dvc pull, from machine to machine"),
        _Check("MLflow", _mlflow, "comparing runs, azeros release; stages go on without"),
        _Check("Prefect", _prefect, "prefect deployment run, schedules; flows also run without a server"),
    ]


def _python() -> str:
    return f"{platform.python_version()} at {sys.executable}"


def _packages(extra: str) -> str:
    """Versions, of the core and one extra, against what the package asks for."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in importlib.metadata.requires("azeros") or ()]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": extra})]
    lacking = [
        f"{one.name}{one.specifier}" for one in wanted if not _is_met(one.name, one.specifier.contains)
    ]
    if lacking:
        raise _Absent(f"{', '.join(lacking)} not installed: make setup, or pip install 'azeros[{extra}]'")
    return f"{len(wanted)} packages of azeros[{extra}]"


def _is_met(package: str, accepts: Callable[[str, bool], bool]) -> bool:
    try:
        return accepts(importlib.metadata.version(package), True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _commands() -> str:
    lacking = [command for command in ("azeros", "dvc") if not shutil.which(command)]
    if lacking:
        raise _Absent(f"{', '.join(lacking)} not on PATH: source .venv/bin/activate")
    return f"azeros and dvc, {shutil.which('dvc')}"


def _disk() -> str:
    free_gb = shutil.disk_usage(Path()).free / _GB
    if free_gb < _WORK_GB:
        raise _Absent(f"{free_gb:.1f} GB free here, the tiny world wants {_WORK_GB:.0f}: free some")
    return f"{free_gb:.0f} GB free; the tiny world wants {_WORK_GB:.0f}"


def _data(settings: Params) -> str:
    """A path that is wrong is worth knowing before the weeks that lie between its stage and the first."""
    paths = {f"corpora.{name}": corpus.path for name, corpus in settings.corpora.items()}
    paths |= {f"benchmark.data.{name}": data.path for name, data in settings.benchmark.data}
    here = {name: Path(path) for name, path in paths.items() if "://" not in str(path)}
    lacking = [f"{name}: {path}" for name, path in here.items() if not path.exists()]
    if lacking:
        raise _Absent(f"nothing at {', '.join(lacking)}: correct params.yaml, or fetch the data")
    return f"{len(settings.corpora)} corpora and the benchmarks are where params.yaml says"


def _espeak() -> str:
    from azeros.tiny.speech import Synthesizer

    Synthesizer()
    return f"speaks, espeakng-loader {importlib.metadata.version('espeakng-loader')}"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise _Absent("none that torch can use")
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return ", ".join(f"{gpu.name} with {gpu.total_memory / _GB:.0f} GB" for gpu in gpus)


def _ffmpeg() -> str:
    import av

    for codec in ("aac", "wmav2", "opus"):
        av.Codec(codec, "r")
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"libavcodec {version}, in av {av.__version__}"


def _hub(models: list[Pretrained]) -> str:
    """Whether it answers; the models at hub ids that are already here need no hub."""
    import httpx
    from huggingface_hub import constants, try_to_load_from_cache

    if models and all(
        isinstance(try_to_load_from_cache(model.path, "config.json", revision=model.revision), str)
        for model in models
    ):
        return f"{', '.join(model.path for model in models)} in {constants.HF_HUB_CACHE}"
    if constants.HF_HUB_OFFLINE:
        raise _Absent("HF_HUB_OFFLINE is set")
    # In _within, because looking up a name knows no time limit.
    reply = _within(_PATIENCE_S, lambda: httpx.head(constants.ENDPOINT, follow_redirects=True))
    reply.raise_for_status()
    return f"{constants.ENDPOINT} answers"


def _dvc_remote() -> str:
    from dvc.config import NoRemoteError
    from dvc.repo import Repo

    with Repo() as repo:
        try:
            remote = repo.cloud.get_remote()
        except NoRemoteError:
            raise _Absent("none: dvc remote add --default NAME URL") from None
        if not _within(_PATIENCE_S, lambda: remote.fs.exists(remote.path)):
            raise _Absent(f"{remote.name}: nothing at {remote.path} yet, or no right to see it: dvc push")
        return f"{remote.name} at {remote.path}"


def _mlflow() -> str:
    from azeros.tracking import connect, store_uri

    uri = store_uri()
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not database.exists():
        return f"{uri}, which the first stage makes"
    experiments = _within(_PATIENCE_S, lambda: connect().search_experiments())
    return f"{uri}, {len(experiments)} experiments"


def _prefect() -> str:
    import httpx
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        raise _Absent("PREFECT_API_URL is not set: run this in the folder of pyproject.toml")
    try:
        _within(_PATIENCE_S, lambda: httpx.get(f"{url}/health")).raise_for_status()
    except (httpx.HTTPError, TimeoutError) as error:
        raise _Absent(f"no server at {url} ({error}): prefect server start") from error
    return f"a server at {url}"


def _within(limit_s: float, action: Callable[[], Outcome]) -> Outcome:
    """What `action` gives; TimeoutError if it takes longer, and it is left to itself."""
    outcomes: list[Outcome] = []
    errors: list[Exception] = []

    def act() -> None:
        try:
            outcomes.append(action())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not outcomes:
        raise TimeoutError(f"no answer in {limit_s:.0f} s")
    return outcomes[0]
