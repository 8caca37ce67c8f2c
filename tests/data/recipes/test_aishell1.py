"""AISHELL-1: blanks and tabs, gender by speaker, recordings without transcripts and the other way round."""

from pathlib import Path

import pytest
from lhotse.recipes import prepare_aishell

from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text

TRANSCRIPTS = (
    "BAC009S0002W0122 而 对  楼市\t成交 抑制   作用\nBAC009S0916W0490     阳逻  ｋ  歌 ok \n"
    "BAC009S0764W0121 甚至 出现\n"
)


def corpus(root: Path, speakers: str = "0002 F\n0916  M \n0764\tF 吴\n") -> Path:
    write_text(root / "data_aishell/transcript/aishell_transcript_v0.8.txt", TRANSCRIPTS)
    write_text(root / "resource_aishell/speaker.info", speakers)
    for place in (
        "train/S0002/BAC009S0002W0122",
        "test/S0916/BAC009S0916W0490",
        "dev/S0764/BAC009S0764W0121",
    ):
        write_audio(root / f"data_aishell/wav/{place}.wav")
    return root


def test_equals_lhotse(tmp_path: Path) -> None:
    root = corpus(tmp_path / "aishell")
    ours = prepare("AISHELL-1", root).cuts
    theirs = prepare_aishell(root)
    for split, official in (("train", "train"), ("validation", "dev"), ("test", "test")):
        assert ours[split].keys() == {said.id for said in theirs[official]["supervisions"]}
        for said in theirs[official]["supervisions"]:
            cut = ours[split][said.id]
            assert (facts(cut)["text"], facts(cut)["speaker"]) == (said.text, said.speaker)
            assert cut.duration == said.duration


@pytest.mark.parametrize("speakers", ["0002 F\n0916   M\n", "S0002 F x\nS0916\tM\n"])
def test_gender_and_faults(tmp_path: Path, speakers: str) -> None:
    root = corpus(tmp_path / "aishell", speakers)
    (root / "data_aishell/wav/dev/S0764/BAC009S0764W0121.wav").unlink()
    write_audio(root / "data_aishell/wav/train/S0002/BAC009S0002W0123.wav")
    prepared = prepare("aishell1", root)
    assert facts(prepared.train["BAC009S0002W0122"]) == {
        "text": "而对楼市成交抑制作用",
        "language": "zh",
        "speaker": "S0002",
        "gender": "female",
    }
    assert facts(prepared.cuts["test"]["BAC009S0916W0490"])["gender"] == "male"
    assert prepared.rejects == {"BAC009S0002W0123": "no text", "BAC009S0764W0121": "audio missing"}
    assert not prepare("aishell1", root, "splits=[train]").cuts["test"]


def test_archives_that_are_not_unpacked(tmp_path: Path) -> None:
    root = tmp_path / "aishell"
    write_text(root / "data_aishell/transcript/aishell_transcript_v0.8.txt", TRANSCRIPTS)
    write_text(root / "data_aishell/wav/S0002.tar.gz", "")
    assert "wav: no train or dev or test split in it; unpack the corpus" in refusal("aishell", root)
