"""The tiny stand-ins are benchmarks: in the official layouts, of held-out speech, with answers that are right."""

import json
import re
from pathlib import Path

import pytest

from azeros.evaluation.samples import SampleSet, load_samples
from azeros.evaluation.voicebench.data import SPLITS
from azeros.tiny.benchmarks import write_benchmarks
from azeros.tiny.world import World
from tests.small import digests, start

NUM_ROWS = 4


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    write_benchmarks(folder, World(), NUM_ROWS, seed=1)
    return folder


def voicebench(folder: Path, subset: str) -> SampleSet:
    return load_samples("voicebench", subset, folder / "voicebench", partial=True)


@pytest.mark.parametrize("subset", SPLITS)
def test_every_set_of_voicebench_loads_with_speech(benchmarks: Path, subset: str) -> None:
    found = voicebench(benchmarks, subset)
    assert len(found.samples) == max(NUM_ROWS, len(SPLITS[subset]))
    for sample in found.samples:
        assert len(sample.request.recording.load()) > 0.2 * 16_000


def test_references_are_the_answers_of_the_world(benchmarks: Path) -> None:
    world = World()
    for row in (sample.result_row("") for sample in voicebench(benchmarks, "sd-qa").samples):
        country = row["prompt"].split()[-1]
        assert row["reference"] == world.values["en"]["facts"]["capital"][country]
    for row in (sample.result_row("") for sample in voicebench(benchmarks, "mmsu").samples):
        sentence, _, asked = row["prompt"].partition(". which word was said? ")
        said = {
            letter: word for letter, word in re.findall(r"([a-d])\. (\w+)", asked) if word in sentence.split()
        }
        assert list(said) == [row["reference"].lower()]
    for row in (sample.result_row("") for sample in voicebench(benchmarks, "ifeval").samples):
        assert set(row["kwargs"][0]["keywords"]) <= set(row["prompt"].split())


def test_airbench_has_its_tasks_and_one_right_choice_each(benchmarks: Path) -> None:
    items = json.loads((benchmarks / "airbench/Foundation/Foundation_meta.json").read_text())
    for item in items:
        choices = [item[f"choice_{letter}"] for letter in "abcd" if item.get(f"choice_{letter}")]
        assert choices.count(item["answer_gt"]) == 1
        assert len(set(choices)) == len(choices) >= 2
    found = load_samples("airbench", "foundation", benchmarks / "airbench", partial=True)
    assert [(part.num_rows, part.num_silent) for part in found.parts] == [(NUM_ROWS, 0)] * 6
    chat = load_samples("airbench", "chat", benchmarks / "airbench", partial=True)
    assert [part.num_rows for part in chat.parts] == [NUM_ROWS] * 2


def test_the_same_command_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        process = start("tiny", "benchmarks", name, "--rows", "1", "--seed", seed)
        process.communicate()
        assert process.returncode == 0
    assert digests(Path("a")) == digests(Path("b"))
    assert digests(Path("a")).keys() == digests(Path("c")).keys()
    assert digests(Path("a")) != digests(Path("c"))
