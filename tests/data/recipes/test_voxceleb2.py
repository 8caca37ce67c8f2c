"""VoxCeleb2: m4a or wav, numbers that repeat, blanks in the table; no transcripts."""

from pathlib import Path

import numpy as np
import pytest

from azeros.data.audio import load_cut
from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text

META = {
    "commas": "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \nid00017 ,n000017 ,f ,test \n",
    "tabs": "VoxCeleb2 ID\tName\tGender\tSet\nid00012\tA, B\tm\tdev\nid00017\tC\tf\ttest\n",
}


@pytest.mark.parametrize("meta", META)
def test_clips_as_they_come(tmp_path: Path, meta: str) -> None:
    root = tmp_path / "vox2"
    write_text(root / "vox2_meta.csv", META[meta])
    for place in ("dev/aac/id00012/21Uxsk56VDQ/00001", "dev/aac/id00012/2DLq_Kkc1r8/00001"):
        write_audio(root / f"{place}.m4a", 2)
    write_audio(root / "test/aac/id00017/01dfn2spqyE/00001.m4a", 1)
    damaged = write_audio(root / "dev/aac/id00012/21Uxsk56VDQ/00002.m4a", 2)
    damaged.write_bytes(damaged.read_bytes()[:3000])
    prepared = prepare("voxceleb2", root)
    assert list(prepared.train) == ["id00012-21Uxsk56VDQ-00001", "id00012-2DLq_Kkc1r8-00001"]
    cut = prepared.train["id00012-21Uxsk56VDQ-00001"]
    assert facts(cut) == {"speaker": "id00012", "gender": "male", "split": "dev"}
    assert cut.duration == pytest.approx(2, abs=0.15)  # AAC comes in frames of 64 ms
    wave = load_cut(cut)
    assert len(wave) == cut.num_samples
    assert 200 <= np.abs(np.fft.rfft(wave[:16_000])).argmax() <= 1000
    assert facts(prepared.cuts["test"]["id00017-01dfn2spqyE-00001"])["gender"] == "female"
    assert prepared.rejects == {"id00012-21Uxsk56VDQ-00002": "audio unreadable"}


def test_converted_clips(tmp_path: Path) -> None:
    root = tmp_path / "vox2"
    write_text(root / "vox2_meta.csv", META["commas"])
    write_audio(root / "dev/wav/id00099/21Uxsk56VDQ/00001.wav")
    write_audio(root / "dev/aac/id00099/21Uxsk56VDQ/00001.m4a", 1)
    prepared = prepare("voxceleb", root)
    assert facts(prepared.train["id00099-21Uxsk56VDQ-00001"]) == {"speaker": "id00099", "split": "dev"}
    assert prepared.report["by"]["language"] == {"unknown": {"utterances": 1, "hours": 0.000278}}


def test_no_table(tmp_path: Path) -> None:
    write_audio(tmp_path / "vox2/dev/wav/id00099/21Uxsk56VDQ/00001.wav")
    assert "no vox2_meta.csv" in refusal("voxceleb2", tmp_path / "vox2")
