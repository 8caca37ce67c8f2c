"""A folder of recordings becomes manifests, each row accounted for; a broken corpus leaves no output."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from azeros.data import corpus as corpora
from azeros.data import recipes
from azeros.data.audio import load_cut
from azeros.data.corpus import SPLITS
from azeros.data.manifests import cuts_path, read_cuts
from azeros.data.recipes import Reject, Row, Source, Utterance
from azeros.errors import AzerosError, CorpusError, StageError
from azeros.params import FolderCorpus, Params, Prepare, load_params
from azeros.stages import prepare
from tests.conftest import ROOT


def params(folder: Path, max_rejected_share: float = 0.05) -> Params:
    return load_params(ROOT / "params.yaml").model_copy(
        update={
            "corpora": {"mine": FolderCorpus(recipe="folder", path=folder, language="en")},
            "prepare": Prepare(max_rejected_share=max_rejected_share),
        }
    )


def record(path: Path, seconds: float = 1.0, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(round(seconds * rate))), rate)


def corpus(folder: Path, faults: bool = False) -> Path:
    names = ["a", "b", "c"]
    for name in names:
        record(folder / f"{name}.wav", 1.5)
    rows = [
        "file_name,text,gender,age,split",
        "a.wav,one,f,30,train",
        "b.wav,two,m,,test",
        "c.wav,three,,,train",
    ]
    if faults:
        record(folder / "short.wav", 0.1)
        (folder / "noise.wav").write_bytes(b"RIFF")
        rows += ["a.wav,again,,,", "short.wav,x,,,", "noise.wav,x,,,", "gone.wav,x,,,", "d.wav,,,,", "e.wav"]
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_folder_becomes_manifests(here: Path) -> None:
    prepare.run(params(corpus(here / "wavs")), "mine", Path("data/mine"))
    cuts = list(read_cuts(Path("data/mine/cuts_train.jsonl.gz")))
    assert [cut.id for cut in cuts] == ["a", "c"]
    assert [len(list(read_cuts(cuts_path(Path("data/mine"), s)))) for s in SPLITS] == [2, 0, 1]
    cut = cuts[0]
    said = cut.supervisions[0]
    assert (said.text, said.language, said.gender, said.custom) == (
        "one",
        "en",
        "female",
        {"age": "30", "age_group": "young adult"},
    )
    assert cut.recording.sources[0].source == "wavs/a.wav"
    assert len(load_cut(cut)) == 24_000
    report = json.loads(Path("data/mine/report.json").read_text())
    assert (report["rows_in"], report["rows_out"], report["rejected"]) == (3, 3, {})
    assert report["hours"] == pytest.approx(4.5 / 3600, abs=1e-6)
    assert report["by"]["age_group"]["young adult"]["utterances"] == 1
    assert Path("data/mine/rejects.jsonl").read_text() == ""


def test_every_fault_is_counted_by_its_name(here: Path) -> None:
    prepare.run(params(corpus(here / "wavs", faults=True), max_rejected_share=0.9), "mine", Path("out"))
    report = json.loads(Path("out/report.json").read_text())
    assert report["rejected"] == {
        "duplicate id": 1,
        "audio too short": 1,
        "audio unreadable": 1,
        "audio missing": 1,
        "no text": 1,
        "malformed row": 1,
    }
    assert report["rows_in"] == report["rows_out"] + sum(report["rejected"].values()) == 9
    rejects = [json.loads(line) for line in Path("out/rejects.jsonl").read_text().splitlines()]
    assert len(rejects) == 6
    assert all(reject["detail"] and reject["id"] for reject in rejects)


def test_two_runs_make_the_same_bytes(here: Path) -> None:
    settings = params(corpus(here / "wavs", faults=True), max_rejected_share=0.9)
    for name in ("out", "again"):
        prepare.run(settings, "mine", Path(name))
    for path in Path("out").iterdir():
        assert path.read_bytes() == (Path("again") / path.name).read_bytes()


def test_too_many_rejects_fail_and_leave_the_old_output(here: Path) -> None:
    prepare.run(params(corpus(here / "wavs")), "mine", Path("out"))
    before = Path("out/report.json").read_bytes()
    with pytest.raises(CorpusError, match=r"6 of 9 rows rejected .*max_rejected_share 0.05") as caught:
        prepare.run(params(corpus(here / "wavs", faults=True)), "mine", Path("out"))
    assert "\n" not in str(caught.value)
    kept = Path(str(caught.value).rpartition(" ")[2])
    assert len(kept.read_text().splitlines()) == 6
    assert Path("out/report.json").read_bytes() == before


def test_the_error_is_about_faults_not_about_what_was_expected(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Row] = [
        Reject("w", "no speech", "w: noise", expected=True),
        Utterance("x", "test", np.linspace(-0.5, 0.5, 8000, dtype=np.float32), "hi", "en"),
        Reject("y", "no text", "y: empty"),
    ]
    monkeypatch.setattr(corpora, "open_corpus", lambda corpus, seed: Source(len(rows), iter(rows)))
    with pytest.raises(CorpusError, match=r"2 of 3 rows rejected .* 1 of them for faults.* first: y: empty"):
        prepare.run(params(here), "mine", Path("out"))


@pytest.mark.parametrize(("name", "error"), [("other", StageError), ("mine", CorpusError)])
def test_what_is_not_there(here: Path, name: str, error: type[AzerosError]) -> None:
    with pytest.raises(error, match=r"no '?"):
        prepare.run(params(here / "gone"), name, Path("out"))
    assert not Path("out").exists()


def test_samples_of_a_recipe_are_stored(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = np.linspace(-0.5, 0.5, 8000, dtype=np.float32)
    rows: list[Row] = [
        Utterance("x", "test", wave, "hi", "en", emotion="sad"),
        Reject("y", "no voice", "voice y"),
        Utterance("z", "dev", wave, "hi", "en"),
    ]
    monkeypatch.setattr(corpora, "open_corpus", lambda corpus, seed: Source(len(rows), iter(rows)))
    prepare.run(params(here, max_rejected_share=0.7), "mine", Path("out"))
    (cut,) = read_cuts(Path("out/cuts_test.jsonl.gz"))
    assert cut.recording.sources[0].source == "out/audio/x.flac"
    assert np.abs(load_cut(cut) - wave).max() < 1e-4
    report = json.loads(Path("out/report.json").read_text())
    assert report["rejected"] == {"no voice": 1, "unknown split": 1}


def test_spoken_digits(shared_data: Path, here: Path) -> None:
    """Real recordings at 8 kHz: some of these digits are shorter than what the encoders can use."""
    digits = sorted((shared_data / "speech" / "fsdd").glob("*.wav"))[::20]
    rows = [f"{path},{path.stem[0]},{path.stem.split('_')[1]}" for path in digits]
    (here / "wavs").mkdir()
    (here / "wavs" / "metadata.csv").write_text("\n".join(["file_name,text,speaker", *rows]) + "\n")
    prepare.run(params(here / "wavs", max_rejected_share=0.2), "mine", Path("out"))
    report = json.loads(Path("out/report.json").read_text())
    assert report["rows_in"] == len(digits) == 100
    assert report["rejected"].keys() <= {"audio too short"}
    cuts = list(read_cuts(Path("out/cuts_train.jsonl.gz")))
    assert {cut.supervisions[0].speaker for cut in cuts} == {"george", "jackson", "lucas", "nicolas"}
    assert recipes.open_corpus(params(here / "wavs").corpora["mine"], 1).num_rows == 100
