"""Miniature copies of the data are read as the official code reads the real ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from azeros.errors import BenchmarkError
from azeros.evaluation.samples import load_samples
from azeros.evaluation.score import SUBSETS
from azeros.evaluation.voicebench.data import SPLITS
from tests.evaluation.official import wav, write_airbench, write_voicebench
from tests.small import run


def test_the_scorer_expects_the_published_numbers_of_rows() -> None:
    assert {subset: SUBSETS["voicebench"][subset][1] for subset in SPLITS} == {
        "alpacaeval": 199, "alpacaeval_full": 636, "commoneval": 200, "wildvoice": 1000, "sd-qa": 553, "bbh": 1000,
        "advbench": 520, "ifeval": 345, "openbookqa": 455, "mmsu": 3074,
    }  # fmt: skip
    assert SUBSETS["airbench"]["foundation"][1] == 7992


def test_rows_are_those_of_the_official_response_file(golden: Path, tmp_path: Path) -> None:
    for number, case in enumerate(
        json.loads((golden / "benchmarks/voicebench/file_layout.json").read_text())
    ):
        data = tmp_path / str(number)
        write_voicebench(data, case["data"], case["split"], case["rows_without_audio"])
        found = load_samples("voicebench", case["data"], data, partial=True)
        text = case["modality"] == "text"
        replies = [f"T:{s.request.transcript}" if text else 'réponse "ok"\n第二行' for s in found.samples]
        rows = [s.result_row(reply) for s, reply in zip(found.samples, replies, strict=True)]
        ((name, content),) = case["output_files"].items()
        assert "".join(json.dumps(row) + "\n" for row in rows) == content
        assert name == f"azeros-{found.subset}-{found.split}-{case['modality']}.jsonl"


def test_each_row_has_its_own_recording(tmp_path: Path) -> None:
    write_voicebench(tmp_path, "bbh", "test", [{"prompt": str(i)} for i in range(5)], num_shards=2)
    samples = load_samples("voicebench", "bbh", tmp_path, partial=True).samples
    heard = {s.request.transcript: s.request.recording for s in samples}
    for i in range(5):
        assert heard[str(i)].read() == wav(0.3 + 0.1 * i)
        assert heard[str(i)].num_bytes == len(wav(0.3 + 0.1 * i))
        assert len(heard[str(i)].load()) == 16_000 * (3 + i) // 10


@pytest.mark.parametrize(("file", "kind", "subset"), [
    ("foundation_prompts", "Foundation", "foundation"), ("chat_inference", "Chat", "chat"),
])  # fmt: skip
def test_prompts_paths_and_rows_of_airbench_are_the_official_ones(
    golden: Path, tmp_path: Path, file: str, kind: str, subset: Any
) -> None:
    lines = (golden / "benchmarks/airbench" / f"{file}.jsonl").read_text().split("\n")
    cases = [json.loads(line) for line in lines if line]
    write_airbench(tmp_path, kind, [case["input"] for case in cases])
    found = {
        s.result_row("A.")["uniq_id"]: s
        for s in load_samples("airbench", subset, tmp_path, partial=True).samples
    }
    assert found
    for case in cases:
        if sample := found.get(case["input"]["uniq_id"]):
            assert sample.request.instruction == case["expect"]["instruction"]
            assert sample.request.recording.name == str(tmp_path / kind / case["expect"]["audio_relpath"])
            assert json.dumps(sample.result_row("A.")) == json.dumps(
                case["expect"]["result_row_with_response_A_dot"]
            )
            assert sample.request.transcript is None


def test_a_part_of_the_data_is_refused_unless_told(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    write_voicebench(tmp_path, "advbench", "test", rows, recordings=[wav(0.3), None])
    with pytest.raises(BenchmarkError, match=r"test has 2 of 520 rows and 1 without recording.*--partial"):
        load_samples("voicebench", "advbench", tmp_path, partial=False)
    found = load_samples("voicebench", "advbench", tmp_path, partial=True)
    assert [s.request.transcript for s in found.samples] == ["a"]
    assert not found.is_complete
    result = run("benchmark", "check", "voicebench", "advbench", str(tmp_path))
    assert (result.exit_code, result.stdout.split()[-4:]) == (1, ["test", "2", "520", "1"])


def test_the_whole_set_is_taken(tmp_path: Path) -> None:
    write_voicebench(
        tmp_path, "commoneval", "test", [{"prompt": str(i)} for i in range(200)], recordings=[wav(0.3)] * 200
    )
    assert load_samples("voicebench", "commoneval", tmp_path, partial=False).is_complete


def test_a_set_of_unknown_size_is_not_called_complete(tmp_path: Path) -> None:
    item = {"meta_info": "m", "question": "q", "answer_gt": "a", "dataset_name": "fisher"}
    tasks = ["speech_QA", "speech_dialogue_QA"]
    items = [{**item, "task_name": task, "path": f"{i}.wav", "uniq_id": i} for i, task in enumerate(tasks)]
    write_airbench(tmp_path / "one", "Chat", items[:1])
    with pytest.raises(BenchmarkError, match=r"speech_dialogue_QA has 0 of \? rows"):
        load_samples("airbench", "chat", tmp_path / "one", partial=False)
    write_airbench(tmp_path / "both", "Chat", items)
    assert load_samples("airbench", "chat", tmp_path / "both", partial=False).is_complete is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"no test-\*-of-\*\.parquet in it"):
        load_samples("voicebench", "bbh", tmp_path, partial=True)
    write_voicebench(tmp_path, "bbh", "test", [{"prompt": "a"}, {"prompt": "b"}], num_shards=2)
    (tmp_path / "bbh" / "test-00001-of-00002.parquet").unlink()
    with pytest.raises(BenchmarkError, match="1 of the 2 files of test"):
        load_samples("voicebench", "bbh", tmp_path, partial=True)
    (tmp_path / "bbh" / "test-00001-of-00002.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BenchmarkError, match=r"00002\.parquet: not a readable parquet file"):
        load_samples("voicebench", "bbh", tmp_path, partial=True)
    write_voicebench(tmp_path, "bbh", "test", [{"prompt": "a"}])
    with pytest.raises(BenchmarkError, match=r"two versions of test, .* remove one"):
        load_samples("voicebench", "bbh", tmp_path, partial=True)
    with pytest.raises(BenchmarkError, match="has no set 'bbbh'"):
        load_samples("voicebench", "bbbh", tmp_path, partial=True)
    with pytest.raises(BenchmarkError, match=r"Foundation_meta\.json: No such file"):
        load_samples("airbench", "foundation", tmp_path, partial=True)
