"""Shards here and behind HTTP: the same manifest, the same sound, each fault by name."""

import io
import shutil
import tarfile
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from azeros.data.audio import UnusableAudio, decode, load_audio, load_cut
from azeros.data.manifests import cuts_path, read_cuts
from tests.data.recipes.miniature import Prepared, facts, prepare, refusal, write_audio
from tests.small import run
from tests.storage import Ranges, served

# lhotse leaves the shards that it reads open.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")


def shards(root: Path) -> tuple[Path, Prepared]:
    """A corpus of two splits as Shar, and as it was prepared from recordings that are gone."""
    write_audio(root / "wavs/a.wav", rate=8000)
    write_audio(root / "wavs/b.flac", channels=2)
    write_audio(root / "wavs/c.opus", rate=48_000)
    lines = [
        "file_name,text,age,emotion,split",
        "a.wav,one,34,joy,train",
        "b.flac,two,,,dev",
        "c.opus,three,,,train",
    ]
    (root / "wavs/metadata.csv").write_text("\n".join(lines))
    assert run("data", "prepare", "folder", str(root / "wavs"), str(root / "made"), "--shar").exit_code == 0
    before = prepare("folder", root / "wavs")
    shutil.rmtree(root / "wavs")
    return root / "made/shar", before


def test_shards_give_the_manifest_that_they_were_made_of(tmp_path: Path) -> None:
    folder, before = shards(tmp_path)
    read = prepare("shar", folder)
    assert {split: list(cuts) for split, cuts in read.cuts.items()} == {
        split: list(cuts) for split, cuts in before.cuts.items()
    }
    assert {id: facts(cut) for id, cut in read.train.items()} == {
        id: facts(cut) for id, cut in before.train.items()
    }
    shard = {cut.id: cut for cut in CutSet.from_shar(in_dir=folder / "train")}
    for id, cut in read.train.items():
        assert cut.recording.sources[0].source.startswith(f"{folder}/train/recording.000000.tar#bytes=")
        assert np.array_equal(load_cut(cut), shard[id].load_audio()[0])
    assert (
        run("data", "check", str(tmp_path / "made/shar-prepared")).output.strip().endswith("nothing is wrong")
    )


def test_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azeros.data.audio._WAITS_S", ())
    folder, before = shards(tmp_path)
    output = tmp_path / "out"
    with served(folder) as url:
        assert run("data", "prepare", "shar", url, str(output)).exit_code == 0
        cuts = list(read_cuts(cuts_path(output, "train")))
        assert [cut.id for cut in cuts] == list(before.train)
        heard = [load_cut(cut) for cut in cuts]
    local = prepare("shar", folder).train.values()
    assert all(np.array_equal(wave, load_cut(cut)) for wave, cut in zip(heard, local, strict=True))
    with pytest.raises(UnusableAudio, match="see to the storage"):
        load_cut(cuts[0])


def test_storage_that_stumbles_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azeros.data.audio._WAITS_S", (0.0, 0.0))
    (tmp_path / "a.wav").write_bytes(b"x" * 9)
    refused: list[str] = []

    class Busy(Ranges):
        def send_head(self) -> io.BytesIO | BinaryIO | None:
            if len(refused) < 2:
                refused.append(self.path)
                self.send_error(503)
                return None
            return super().send_head()

    with served(tmp_path, Busy) as url, pytest.raises(UnusableAudio, match="unreadable"):
        decode(f"{url}/a.wav#bytes=0-8")  # arrives, and is no sound
    assert refused == ["/a.wav"] * 2


def test_a_server_without_ranges(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(bytes(100))
    with served(tmp_path, SimpleHTTPRequestHandler) as url, pytest.raises(UnusableAudio, match="HTTP ranges"):
        load_audio(f"{url}/shard.tar#bytes=10-19")


def test_shards_that_lhotse_made(tmp_path: Path) -> None:
    recording = Recording.from_file(write_audio(tmp_path / "long.wav", seconds=3))
    said = SupervisionSegment("x", "long", 0.5, 2.0, text="hi", language="English", gender="F")
    cut = recording.to_cut()
    cut.supervisions = [said]
    parts = CutSet.from_cuts([cut]).trim_to_supervisions()
    silent = [MonoCut("y", 0.0, 2.0, 0, supervisions=list(parts[0].supervisions))]
    (tmp_path / "theirs").mkdir()
    CutSet.from_cuts([*parts, *silent]).to_shar(
        tmp_path / "theirs", fields={"recording": "wav"}, shard_size=2
    )
    read = prepare("shar", tmp_path / "theirs")
    (cut,) = read.train.values()
    assert (cut.start, cut.duration, facts(cut)["language"]) == (0.0, 2.0, "en")
    assert read.rejects == {"y": "no recording"}


def test_faults(tmp_path: Path) -> None:
    assert "no shards" in refusal("shar", tmp_path)
    assert "see to the storage" in run("data", "prepare", "shar", "nowhere://x", str(tmp_path / "no")).stderr
    folder, _ = shards(tmp_path)
    sound = folder / "train/recording.000000.tar"
    content = sound.read_bytes()
    sound.write_bytes(content[:5000])
    assert "unreadable" in refusal("shar", folder)
    with tarfile.open(sound, "w"):
        pass
    assert "not the sound of the cuts" in refusal("shar", folder)
    sound.unlink()
    assert "recording.000000.tar: no such shard" in refusal("shar", folder)
