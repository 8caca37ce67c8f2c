"""params.yaml is read strictly, and what is wrong with it is said in one line."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from azeros.errors import ParamsError
from azeros.params import Params, load_params
from tests.conftest import ROOT

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")


def load(folder: Path, text: str) -> Params:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


def message(folder: Path, old: str, new: str) -> str:
    text, count = re.subn(old, new, SHIPPED, count=1)
    assert count
    with pytest.raises(ParamsError) as caught:
        load(folder, text)
    line = str(caught.value)
    assert line.startswith(str(folder / "params.yaml"))
    assert "\n" not in line
    return line


def test_the_shipped_file_is_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.corpora["tiny"].path == Path("azeros/tiny/world.yaml")
    assert params.train.stage2.sets.keys() <= params.sift.sets.keys()


def test_params_are_frozen() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        params.seed = 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max_new_tokens:", "max_new_token:", ["sift.max_new_token'", "did you mean 'max_new_tokens'"]),
        ("seed: 1", "seed: 1\nsed: 2", ["unknown key 'sed' (value 2)", "remove it"]),
        ("seed: 1\n", "", ["'seed' is missing", "add it"]),
        ("seed: 1", "seed: one", ["'seed' is \"one\"", "integer"]),
        ("seed: 1", "seed: 1.5", ["'seed' is 1.5", "integer"]),
        ("seed: 1", "seed: [", [":7: not valid YAML"]),
        ("seed: 1", "seed: 1\nseed: 2", [":4: not valid YAML", "duplicate key"]),
        (r"num_train: \d+", "num_train: 0", ["'corpora.tiny.num_train' is 0", "greater than or equal to 1"]),
        ("recipe: tiny", "recipe: toy", ["'corpora.tiny.recipe' is 'toy'", "'tiny', 'folder'"]),
        ("recipe: tiny, ", "", ["'corpora.tiny.recipe' is missing"]),
        ("kind: local, ", "", ["'sift.backend.kind' is missing"]),
        ("kind: local", "kind: vllm", ["'sift.backend.kind' is 'vllm': no such kind", "'local', 'openai'"]),
        (
            "backend: {kind: local, batch_size: 64}",
            "backend: {kind: openai, base_url: host/v1}",
            ["sift.backend"],
        ),
        ("empty: false", "empty: 0", ["'sift.unusable.empty' is 0", "boolean"]),
        ("corpus: tiny,", "corpus: tinny,", ["sift.sets.tiny_s.corpus: no 'tinny'", "did you mean 'tiny'"]),
        (r"max_duration_s: [\d.]+", "max_duration_s: .nan", ["filter.max_duration_s", "finite"]),
        (r"min_duration_s: [\d.]+", "min_duration_s: 31.0", ["filter: min_duration_s must be below"]),
        ("mode: sift_s}", "mode: sift_x}", ["sift.sets.tiny_s.mode", "'sift_ssp'"]),
        (r"sets: {tiny_s: [\d.]+}", "sets: {tiny_sit: 1.0}", ["train.stage1.sets", "mode sift_s"]),
        ("tiny_s: {corpus", "a b: {corpus", ["sift.sets.a b", "pattern"]),
        ("average: null", "average: {period_steps: 3, last_steps: 9}", ["must be multiples of period_steps"]),
        (
            r"(?s)patience: null(.*?)average: null",
            r"patience: 3\1average: {period_steps: 10, last_steps: 10}",
            ["which steps are the last must be known"],
        ),
        ("spec_augment: false", "spec_augment: true", ["what is stored cannot be augmented"]),
    ],
)
def test_a_wrong_value_is_named_in_one_line(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    line = message(tmp_path, old, new)
    assert all(word in line for word in words), line


def test_yaml_is_read_as_dvc_reads_it(tmp_path: Path) -> None:
    text = re.sub(r"base_lr: [\d.e-]+", "base_lr: 1e-3", SHIPPED).replace("    en: Desc", "    no: Desc")
    params = load(tmp_path, text)
    assert params.train.stage1.schedule.base_lr == 1e-3
    assert "no" in params.sift.instructions


@pytest.mark.parametrize("text", ["", "- 1\n", "3\n", "? [a]\n: b\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"nowhere\.yaml: No such file or directory; give the path"):
        load_params(tmp_path / "nowhere.yaml")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"seed: \xe9\n")
    with pytest.raises(ParamsError, match="UTF-8"):
        load_params(tmp_path / "latin.yaml")
