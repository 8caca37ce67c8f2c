"""Settings replaced in params.yaml by dotted key: by `azeros override`, by a flow, by an option of a recipe."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from azeros.errors import ParamsError
from azeros.params import Params, load_params, read_yaml


def override(path: Path, values: Mapping[str, Any]) -> Params:
    """Replace settings in params.yaml by dotted key, keep its comments, and check the whole before it is written.

    Raises:
        ParamsError: a key is not there, or a value is wrong; the file is as it was.
    """
    with _overridden(path, values) as (draft, params):
        draft.replace(path)
    return params


def check_override(path: Path, values: Mapping[str, Any]) -> Params:
    """What the settings would be by `override`, which raises the same; nothing is written."""
    with _overridden(path, values) as (_, params):
        return params


@contextmanager
def _overridden(path: Path, values: Mapping[str, Any]) -> Iterator[tuple[Path, Params]]:
    """The file as it would be, beside `path`, and what it says; it is gone when the block ends."""
    yaml = YAML(pure=True)
    yaml.preserve_quotes, yaml.width = True, 120
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    read_yaml(path)
    document = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        *parents, last = key.split(".")
        section = document
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise ParamsError(f"{path}: there is no setting '{key}' to override; correct the key")
        section[last] = value
    draft = path.with_name(f".{path.name}.partial")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            yaml.dump(document, stream)
        try:
            params = load_params(draft)
        except ParamsError as error:
            reason = str(error).replace(str(draft), str(path))
            raise ParamsError(f"overriding {', '.join(values)}: {reason}") from error
        yield draft, params
    finally:
        draft.unlink(missing_ok=True)


def read_overrides(items: Iterable[str]) -> dict[str, Any]:
    """Overrides by dotted key, a later one in the place of an earlier one.

    Args:
        items: each `key=value`, or a YAML file that maps dotted keys to values.

    Raises:
        ParamsError: an item is neither.
    """
    values: dict[str, Any] = {}
    for item in items:
        if "=" in item:
            key, value = parse_override(item)
            values[key] = value
            continue
        document = read_yaml(Path(item))
        if not isinstance(document, dict):
            raise ParamsError(f"{item}: not a mapping of dotted keys to values; see flows/paper.yaml")
        values |= {str(key): value for key, value in document.items()}
    return values


def parse_override(text: str) -> tuple[str, Any]:
    """`train.stage1.num_steps=500` -> key and value, the value read as YAML.

    Raises:
        ParamsError: it is not of that form.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ParamsError(f"'{text}' is no override; write one like train.stage1.num_steps=500")
    try:
        return key, YAML(typ="safe", pure=True).load(value)
    except YAMLError as error:
        raise ParamsError(
            f"'{text}': the value is not YAML; write one like train.stage1.num_steps=500"
        ) from error
