"""What training leaves and what it never touches; what a kill, Ctrl-C and lost audio leave behind; one process and two."""

import csv
import json
import math
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from azeros.data.corpus import SPLITS
from azeros.data.manifests import cuts_path
from azeros.data.shar import export_shar
from azeros.foundation import build_model
from azeros.params import load_params
from tests.model.test_llms import SIZE, make_llm
from tests.small import FEW, complaint, digests, run, start, wait_for, write_params
from tests.storage import served

STAGE1 = ["train", "stage1", "data/manifests", "data/targets/sift_s"]
LORA = "adapters/stage1/adapter_model.safetensors"
TWO = "torchrun --standalone --nproc-per-node 2"
STAGE2 = ["train", "stage2", "data/manifests", "data/targets"]


def losses(curve: Path) -> list[float]:
    with curve.open() as stream:
        return [float(point["loss"]) for point in csv.DictReader(stream)]


def projectors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "projectors.safetensors")


@pytest.mark.parametrize(
    ("name", "rows"), [("stage1", {"tiny_s": 60}), ("stage2", {"tiny_s": 60, "tiny_sit": 60})]
)
def test_a_stage_leaves_projectors_curve_and_metrics(inputs: Path, name: str, rows: dict[str, int]) -> None:
    folder = Path("models") / name
    assert digests(folder).keys() >= {"projectors.safetensors", "curve.csv", "metrics.json"}
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["rows"] == rows
    assert metrics["step"] == 40
    with (folder / "curve.csv").open() as stream:
        curve = list(csv.DictReader(stream))
    assert [int(point["step"]) for point in curve] == [20, 40]
    assert all(math.isfinite(float(point["loss"])) for point in curve)
    with (folder / "validation.csv").open() as stream:
        (validated,) = csv.DictReader(stream)
    assert int(validated["step"]) == 40
    assert float(validated["gap_divergence"]) > 0
    assert 0 <= float(validated["gap_agreement"]) <= 1


def test_what_is_answered_meanwhile_is_tracked(inputs: Path) -> None:
    from azeros.tracking import connect

    client = connect()
    (experiment,) = client.search_experiments(filter_string="name = 'azeros'")
    runs = client.search_runs([experiment.experiment_id], "attributes.run_name = 'train@stage2'")
    table = json.loads(Path(client.download_artifacts(runs[-1].info.run_id, "answers.json")).read_text())
    assert table["columns"] == ["step", "said", "read", "heard"]
    assert [row[0] for row in table["data"]] == ["40", "40"]
    assert "gap_agreement" in runs[-1].data.metrics
    settings = runs[-1].data.params
    assert {"seed", "foundation.llm.path", "schedule.base_lr"} <= settings.keys()
    assert [key for key in settings if key.startswith("filter.")]


def test_validation_needs_a_split_to_validate_on(inputs: Path) -> None:
    Path("data/manifests/tiny/cuts_validation.jsonl.gz").unlink()
    result = run(*STAGE1, "models/new")
    assert result.exit_code == 1
    assert "none of tiny has a validation split" in complaint(result.stderr)


def test_stage2_leaves_what_stage1_learned(inputs: Path) -> None:
    before, after = projectors(Path("models/stage1")), projectors(Path("models/stage2"))
    assert before
    assert all(name.startswith("speech_encoder_projector.") for name in before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    added = after.keys() - before.keys()
    assert added
    assert all(name.startswith("paraling_encoder_projector.") for name in added)


def test_the_same_run_gives_the_same_projectors(inputs: Path) -> None:
    assert run(*STAGE2, "models/stage2b").exit_code == 0
    again, whole = (digests(Path("models") / name) for name in ("stage2b", "stage2"))
    assert again["projectors.safetensors"] == whole["projectors.safetensors"]


def test_a_model_in_other_turns_learns_from_targets_of_its_own(inputs: Path) -> None:
    few = FEW | {"train.stage1.num_steps": 4, "train.stage1.validation": None}
    write_params(
        Path("params.yaml"), few | {"foundation.llm.path": str(make_llm(inputs / "llm", "Llama", tied=True))}
    )
    assert "train.foreign_targets" in complaint(run(*STAGE1, "models/new").stderr)
    shutil.rmtree("data/targets/sift_s")
    made = run("sift", "tiny_s", "data/manifests/tiny", "data/targets/sift_s/tiny_s")
    assert made.exit_code == 0, made.stderr
    learned = run(*STAGE1, "models/new")
    assert learned.exit_code == 0, learned.stderr
    assert (
        projectors(Path("models/new"))["speech_encoder_projector.linear2.weight"].shape[0]
        == SIZE["hidden_size"]
    )


def test_live_encoding_trains_and_stores_nothing(inputs: Path) -> None:
    shutil.rmtree(".work")
    write_params(
        Path("params.yaml"),
        FEW
        | {
            "train.stage1.encoder_outputs": "live",
            "train.stage1.spec_augment": True,
            "train.stage1.num_steps": 8,
            "train.stage1.validation": None,
        },
    )
    result = run(*STAGE1, "models/live")
    assert result.exit_code == 0, result.stderr
    assert projectors(Path("models/live")).keys() == projectors(Path("models/stage1")).keys()
    assert not Path(".work/encoded").exists()


def test_what_lora_learns_is_kept_through_the_stages(inputs: Path) -> None:
    lora = {"rank": 2, "alpha": 4, "modules": ["q_proj", "v_proj"]}
    few = {"num_steps": 4, "log_every_steps": 4, "checkpoint_every_steps": 2, "validation": None}
    settings = {f"train.{stage}.{key}": value for stage in ("stage1", "stage2") for key, value in few.items()}
    params = load_params(
        write_params(
            Path("params.yaml"), FEW | settings | {"train.stage1.lora": lora, "train.stage2.lora": lora}
        )
    )
    for stage, arguments in (("stage1", STAGE1), ("stage2", STAGE2)):
        assert run(*arguments, f"models/{stage}").exit_code == 0
    first, second = (digests(Path(f"models/{stage}/adapters")) for stage in ("stage1", "stage2"))
    assert {Path(name).parts[0] for name in second} == {"stage1", "stage2"}
    assert {name: digest for name, digest in second.items() if name.startswith("stage1/")} == first
    weights = [
        dict(build_model(params, paraling=True, projectors=folder).llm.named_parameters())
        for folder in (None, Path("models/stage1"), Path("models/stage2"))
    ]
    changed = {name for name, weight in weights[0].items() if not torch.equal(weight, weights[1][name])}
    assert {name.split(".")[-2] for name in changed} == {"q_proj", "v_proj"}
    assert changed == {name for name in changed if not torch.equal(weights[1][name], weights[2][name])}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_to_the_same_projectors(inputs: Path, number: signal.Signals) -> None:
    if number is signal.SIGKILL:
        shutil.rmtree(".work")
    process = start(*STAGE1, "models/again")
    wait_for(".work/stage1/*/checkpoint.pt", process)
    process.send_signal(number)
    stderr = process.communicate()[1]
    assert not Path("models/again").exists()
    if number is signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted; the same command goes on where it stopped" in complaint(stderr)
    else:
        assert process.returncode == -signal.SIGKILL
    assert run(*STAGE1, "models/again").exit_code == 0
    again, whole = (digests(Path("models") / name) for name in ("again", "stage1"))
    assert again["projectors.safetensors"] == whole["projectors.safetensors"]


@pytest.mark.slow
def test_shards_behind_http_teach_what_their_recordings_did(inputs: Path) -> None:
    for split in SPLITS:
        export_shar(cuts_path(Path("data/manifests/tiny"), split), Path("shar") / split)
    for folder in ("data", ".work"):
        shutil.rmtree(folder)
    with served(inputs / "shar") as url:
        write_params(Path("params.yaml"), FEW | {"corpora.tiny": {"recipe": "shar", "path": url}})
        assert run("prepare", "tiny", "data/manifests/tiny").exit_code == 0
        assert run("sift", "tiny_s", "data/manifests/tiny", "data/targets/sift_s/tiny_s").exit_code == 0
        process = start(*STAGE1, "models/again")
        wait_for(".work/stage1/*/checkpoint.pt", process)
        process.kill()
        process.communicate()
        assert run(*STAGE1, "models/again").exit_code == 0
        assert run(*STAGE1, "models/unstopped").exit_code == 0
    again, unstopped, before = (digests(Path("models") / name) for name in ("again", "unstopped", "stage1"))
    assert unstopped == before
    assert again["projectors.safetensors"] == before["projectors.safetensors"]


@pytest.mark.slow
def test_a_killed_run_stops_early_where_an_unbroken_one_does(inputs: Path) -> None:
    checks = {"every_steps": 4, "num_cuts": 4, "num_answers": 0, "patience": 1}
    update = {"validation": checks, "log_every_steps": 4, "max_loss_growth": None, "schedule.base_lr": 10.0}
    write_params(Path("params.yaml"), FEW | {f"train.stage1.{key}": value for key, value in update.items()})
    whole = run(*STAGE1, "models/whole")
    assert whole.exit_code == 0, whole.stderr
    process = start(*STAGE1, "models/again")
    wait_for(".work/stage1/*/checkpoint.pt", process)
    process.kill()
    process.communicate()
    again = start(*STAGE1, "models/again")
    stderr = again.communicate()[1]
    assert again.returncode == 0, stderr
    metrics = json.loads(Path("models/whole/metrics.json").read_text())
    assert metrics["stopped_early"]
    assert f"stage1: stopped early at step {metrics['step']:.0f} of 40" in stderr
    assert digests(Path("models/again")) == digests(Path("models/whole"))


def test_lost_audio_is_named_and_the_old_model_stays(inputs: Path) -> None:
    before = digests(Path("models"))
    shutil.rmtree(".work")
    lost = Path("data/manifests/tiny/audio/train-00007.flac")
    lost.unlink()
    result = run(*STAGE1, "models/stage1")
    assert result.exit_code == 1
    assert f"cut train-00007: {lost}: missing" in complaint(result.stderr)
    assert digests(Path("models")) == before


@pytest.mark.parametrize("encoder_outputs", ["stored", "live"])
def test_some_lost_audio_is_left_out_and_counted(inputs: Path, encoder_outputs: str) -> None:
    shutil.rmtree(".work")
    lost = [Path(f"data/manifests/tiny/audio/train-0000{number}.flac") for number in (3, 7)]
    update = {"encoder_outputs": encoder_outputs, "max_unreadable_share": 0.02, "num_steps": 20}
    write_params(Path("params.yaml"), FEW | {f"train.stage1.{key}": value for key, value in update.items()})
    lost[0].unlink()
    result = run(*STAGE1, "models/new")
    assert result.exit_code == 0, result.stderr
    assert json.loads(Path("models/new/metrics.json").read_text())["unreadable"] == 1
    shutil.rmtree(".work")
    lost[1].unlink()
    result = run(*STAGE1, "models/more")
    assert result.exit_code == 1
    assert "1 before it were left out (max_unreadable_share)" in complaint(result.stderr)


def test_weights_that_shall_be_sold_hear_no_corpus_that_forbids_it(inputs: Path) -> None:
    corpus = {"recipe": "tess", "path": "x"}
    update = {"commercial": True, "corpora.tess": corpus, "sift.sets.tiny_s.corpus": "tess"}
    write_params(Path("params.yaml"), FEW | update)
    assert "Not for commercial use: TESS" in complaint(run(*STAGE1, "models/new").stderr)


def test_a_launcher_that_is_no_command_is_named(inputs: Path) -> None:
    for launcher, said in (("torchrun '--standalone", "No closing quotation"), (" ", "not enough values")):
        write_params(Path("params.yaml"), FEW | {"train.launcher": launcher})
        line = complaint(run(*STAGE1, "models/new").stderr)
        assert f"train.launcher: {launcher!r} is no command ({said}" in line.replace("\n", " ")


def test_unfinished_work_of_another_filter_is_not_gone_on_with(inputs: Path) -> None:
    shutil.rmtree(".work")
    Path("data/manifests/tiny/audio/train-00007.flac").unlink()
    for max_chars_per_s in (30.0, 31.0):
        write_params(Path("params.yaml"), FEW | {"filter.max_chars_per_s": max_chars_per_s})
        assert run(*STAGE1, "models/new").exit_code == 1
    assert len(list(Path(".work/stage1").iterdir())) == 2


@pytest.mark.parametrize(
    ("gone", "command"),
    [
        ("data/manifests/tiny", STAGE1),
        ("data/targets/sift_s/tiny_s", STAGE1),
        ("models/stage1", STAGE2),
    ],
)
def test_a_missing_input_is_named_with_the_remedy(inputs: Path, gone: str, command: list[str]) -> None:
    shutil.rmtree(gone)
    result = run(*command, "models/new")
    line = complaint(result.stderr)
    assert result.exit_code == 1
    assert gone.rpartition("/")[2] in line
    assert "dvc repro" in line
    assert not Path("models/new").exists()


@pytest.fixture
def full_disk(inputs: Path) -> Iterator[Path]:
    """The folder of a stage's checkpoints, on a disk that is smaller than one of them."""
    folder = inputs / ".work" / "stage1"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_too_small_for_a_checkpoint_ends_in_one_line(full_disk: Path) -> None:
    result = run(*STAGE1, "models/new")
    assert result.exit_code == 1
    assert "the disk is full" in complaint(result.stderr)
    assert not Path("models/new").exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_does(inputs: Path) -> None:
    few: dict[str, object] = FEW | {
        "train.stage1.num_steps": 8,
        "train.stage1.batch_size": 5,
        "train.stage1.optimizer": "adam",
        # At Muon's rate Adam's steps are so long that eight of them made half a percent of what float32 rounds away.
        "train.stage1.schedule.base_lr": 0.0001,
        "train.stage1.tagged_share": 0.25,
        "train.stage1.log_every_steps": 1,
        "train.stage1.max_loss_growth": None,
    }
    write_params(Path("params.yaml"), few)
    assert run(*STAGE1, "models/one").exit_code == 0
    write_params(Path("params.yaml"), few | {"train.launcher": TWO})
    process = start(*STAGE1, "models/two")
    stderr = process.communicate()[1]
    assert process.returncode == 0, stderr
    one, two = (load_file(Path(f"models/{name}/projectors.safetensors")) for name in ("one", "two"))
    fresh = build_model(load_params(Path("params.yaml")), paraling=False).state_dict()
    for name, value in one.items():
        # Adam makes of the smallest gradients, which differ by the order of additions, steps of full size.
        assert (two[name] - value).norm() < 0.05 * (value - fresh[name]).norm()
    alone, shared = (losses(Path(f"models/{name}/curve.csv")) for name in ("one", "two"))
    assert shared[:3] == pytest.approx(alone[:3], rel=1e-5)
    assert shared == pytest.approx(alone, rel=1e-3)
    assert stderr.count("stage1: 8/8") == 1


@pytest.mark.slow
def test_a_language_model_in_two_parts_teaches_what_a_whole_one_does(inputs: Path) -> None:
    """Of batches that give one process a micro-batch more than the other, with LoRA, validated on the way."""
    update: dict[str, object] = {
        "num_steps": 8,
        "batch_size": 5,
        "micro_batch_size": 2,
        "activation_checkpointing": True,
        "log_every_steps": 4,
        "validation": {"every_steps": 4, "num_cuts": 4, "num_answers": 2, "patience": None},
        "lora": {"rank": 2, "alpha": 4, "modules": ["q_proj"]},
    }
    few = FEW | {f"train.stage1.{key}": value for key, value in update.items()} | {"train.launcher": TWO}
    for name, shard_llm in (("whole", False), ("parts", True)):
        write_params(Path("params.yaml"), few | {"train.shard_llm": shard_llm})
        process = start(*STAGE1, f"models/{name}")
        stderr = process.communicate()[1]
        assert process.returncode == 0, stderr
    whole, parts = (
        [load_file(Path("models") / name / file) for file in ("projectors.safetensors", LORA)]
        for name in ("whole", "parts")
    )
    for one, other in zip(whole, parts, strict=True):
        assert one
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
    curves = [Path("models", name, "validation.csv").read_text() for name in ("whole", "parts")]
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_two_killed_processes_go_on_to_the_same_projectors(inputs: Path) -> None:
    write_params(Path("params.yaml"), FEW | {"train.launcher": TWO})
    process = start(*STAGE1, "models/whole")
    stderr = process.communicate()[1]
    assert process.returncode == 0, stderr
    process = start(*STAGE1, "models/again")
    wait_for(".work/stage1/*/checkpoint.pt", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Path("models/again").exists()
    process = start(*STAGE1, "models/again")
    stderr = process.communicate()[1]
    assert process.returncode == 0, stderr
    again, whole = (digests(Path("models") / name) for name in ("again", "whole"))
    assert again["projectors.safetensors"] == whole["projectors.safetensors"]


def test_a_launcher_that_is_not_there_is_named(inputs: Path) -> None:
    write_params(Path("params.yaml"), FEW | {"train.launcher": "no-such-launcher --standalone"})
    result = run(*STAGE1, "models/new")
    assert result.exit_code == 1
    assert "train.launcher: there is no program no-such-launcher" in complaint(result.stderr)
