"""Shar holds what the manifest names: lhotse reads the same sound and the same words from the shards alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet

from azeros.data.audio import load_cut
from azeros.data.manifests import cuts_path, read_cuts
from azeros.data.shar import export_shar
from tests.data.recipes.miniature import prepare, write_audio
from tests.small import run

# lhotse leaves the shards that it reads open.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")


def corpus(root: Path) -> Path:
    write_audio(root / "a.wav", rate=8000)
    write_audio(root / "b.opus", rate=48_000, channels=2)
    write_audio(root / "c.flac", seconds=2.5)
    (root / "metadata.csv").write_text("file_name,text\na.wav,one\nb.opus,two\nc.flac,three\n")
    return root


def test_shards_equal_the_manifest(tmp_path: Path) -> None:
    root = corpus(tmp_path / "wavs")
    prepare("folder", root)
    manifest = cuts_path(tmp_path / "wavs-prepared", "train")
    export_shar(manifest, tmp_path / "shar")
    wanted = [(cut.id, cut.supervisions[0].text, load_cut(cut)) for cut in read_cuts(manifest)]
    shutil.rmtree(root)
    read = list(CutSet.from_shar(in_dir=tmp_path / "shar"))
    assert len(read) == len(wanted) == 3
    for cut, (id, text, wave) in zip(read, wanted, strict=True):
        assert (cut.id, cut.supervisions[0].text, cut.sampling_rate) == (id, text, 16_000)
        assert cut.supervisions[0].duration == cut.duration
        assert np.abs(cut.load_audio()[0] - wave).max() < 1e-4


def test_the_flag(tmp_path: Path) -> None:
    result = run("data", "prepare", "folder", str(corpus(tmp_path / "wavs")), str(tmp_path / "out"), "--shar")
    assert result.exit_code == 0
    assert [path.name for path in (tmp_path / "out/shar").iterdir()] == ["train"]
    assert len(list(CutSet.from_shar(in_dir=tmp_path / "out/shar/train"))) == 3
