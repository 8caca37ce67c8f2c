"""A packaged model as a bento: the service, the model with its card, and the pinned packages that it needs.

python -m bento.build                   the champion of azeros release
python -m bento.build models/azeros     any packaged model

Then, from anywhere: bentoml serve azeros:latest; or, where Docker is: bentoml containerize azeros:latest
"""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")

import bentoml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from azeros.errors import AzerosError, ModelError
from azeros.work import WORK_ROOT, git, hash_model, link_or_copy

_ROOT = Path(__file__).parents[1]
_CHAMPION = Path("releases/champion")
_MODEL = "models/azeros"  # in the bento, where the service looks
# What is copied of this repository. The tiny world's weights stay: the model has its own.
_CODE = ("azeros", "bento", "pyproject.toml", "LICENSE")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "weights")


def build(model: Path) -> bentoml.Bento:
    """Make a bento of a packaged model and keep it in BentoML's store; needs no network.

    Raises:
        ModelError: `model` is no packaged model.
    """
    if not (model / "config.json").is_file() or not list(model.glob("*.safetensors")):
        raise ModelError(
            f"{model}: no packaged model there: run azeros release, or name a folder of dvc repro"
        )
    requirements = [f"{name}=={version}" for name, version in sorted(_pins("azeros", "serve").items())]
    WORK_ROOT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK_ROOT, prefix="bento-") as context:
        folder = Path(context)
        for name in _CODE:
            source = _ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=_LEFT_OUT)
            else:
                shutil.copy(source, folder)
        shutil.copytree(model, folder / _MODEL, copy_function=link_or_copy)
        return bentoml.build(
            "bento.service:Azeros",
            build_ctx=context,
            labels=_labels(model),
            python={"packages": requirements, "lock_packages": False},
            docker={"python_version": f"{sys.version_info.major}.{sys.version_info.minor}"},
        )


def _pins(package: str, extra: str) -> dict[str, str]:
    """The version in use of everything that `package` with `extra` needs, and what that needs in turn."""
    found: dict[str, str] = {}
    waiting = list(_needs(package, {extra, ""}))
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        # +cpu and the like name a build of the package that the image need not have.
        found[name] = Version(importlib.metadata.version(name)).public
        waiting += _needs(name, {*requirement.extras, ""})
    return found


def _needs(package: str, extras: set[str]) -> Iterator[Requirement]:
    for line in importlib.metadata.requires(package) or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras):
            yield requirement


def _labels(model: Path) -> dict[str, str]:
    """What is served and by which code; what the model was made from stands in its card, README.md beside the weights."""
    labels = {
        "model_sha256": hash_model(model),
        "service_commit": git("rev-parse", "HEAD") or "none",
    }
    if changed := git("status", "--porcelain", "--untracked-files=no"):
        labels["changed_files"] = str(len(changed.splitlines()))
    return labels


def main(arguments: list[str]) -> None:
    """Build, and say how to serve what was built."""
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        sys.exit(__doc__)
    bento = build(Path(arguments[0]) if arguments else _CHAMPION)
    print(f"{bento.tag}: {bento.path}\nbentoml serve {bento.tag}")  # noqa: T201 - what it is for


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AzerosError as error:
        sys.exit(f"bento.build: {error}")
