"""CREMA-D: names, demographics and votes; LFS pointers, silence and missing recordings are named."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from azeros.data.labels import age_group_of
from azeros.data.recipes import Utterance, open_corpus
from azeros.params import CremaDCorpus
from tests.data.recipes.miniature import (
    LFS_POINTER,
    Prepared,
    facts,
    prepare,
    refusal,
    write_audio,
    write_text,
)

DEMOGRAPHICS = (
    '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
    '1002,21,"Female","Caucasian","Not Hispanic"\n1076,25,"Female","Asian","Not Hispanic"\n'
)
VOTES = (
    '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
    '"1","1001_DFA_ANG_XX","N","71.67","A","57","A","57.38"\n'
    '"2","1002_IEO_HAP_LO","N:S","71.67","H","57","H","57.38"\n'
)
NAMES = '"Stimulus_Number","Filename"\n1,"1001_DFA_ANG_XX"\n2,"1002_IEO_HAP_LO"\n3,"1002_IEO_HAP_MD"\n'


def corpus(root: Path) -> Path:
    for name in ("1001_DFA_ANG_XX", "1002_IEO_HAP_LO"):
        write_audio(root / f"AudioWAV/{name}.wav")
    write_text(root / "VideoDemographics.csv", DEMOGRAPHICS)
    write_text(root / "SentenceFilenames.csv", NAMES)
    write_text(root / "processedResults/summaryTable.csv", VOTES)
    return root


def emotions(prepared: Prepared) -> list[str | None]:
    return [facts(cut).get("emotion") for cut in prepared.train.values()]


def test_names_and_demographics(tmp_path: Path) -> None:
    root = corpus(tmp_path / "CREMA-D")
    write_text(root / "AudioWAV/1001_IEO_SAD_HI.wav", LFS_POINTER)
    write_text(root / "AudioWAV/._1001_DFA_ANG_XX.wav", "")
    write_audio(root / "AudioWAV/1001_XYZ_SAD_HI.wav")
    soundfile.write(root / "AudioWAV/1076_MTI_SAD_XX.wav", np.zeros(41_000), 16_000)
    prepared = prepare("crema_d", root)
    assert facts(prepared.train["1001_DFA_ANG_XX"]) == {
        "text": "Don't forget a jacket",
        "language": "en",
        "speaker": "1001",
        "gender": "male",
        "age": "51",
        "age_group": "middle-age adult",
        "emotion": "angry",
        "emotion_raw": "ANG",
    }
    assert prepared.train.keys() == {"1001_DFA_ANG_XX", "1002_IEO_HAP_LO"}
    assert prepared.rejects == {
        "1001_IEO_SAD_HI": "audio git-lfs pointer",
        "1001_XYZ_SAD_HI": "unknown name",
        "1076_MTI_SAD_XX": "audio silent",
        "1002_IEO_HAP_MD": "audio missing",
    }
    assert prepared.report["paper_hours"] == {"en": 5.0}


@pytest.mark.parametrize(
    ("vote", "labels"), [("voice", ["neutral", None]), ("multimodal", ["angry", "happy"])]
)
def test_votes_of_listeners(tmp_path: Path, vote: str, labels: list[str | None]) -> None:
    assert emotions(prepare("crema_d", corpus(tmp_path / "CREMA-D"), f"emotion={vote}")) == labels


def test_without_metadata(tmp_path: Path) -> None:
    write_audio(tmp_path / "CREMA-D/AudioWAV/1001_DFA_ANG_XX.wav")
    assert "no VideoDemographics.csv in it" in refusal("crema_d", tmp_path / "CREMA-D")


def test_all_names_and_demographics(shared_data: Path, tmp_path: Path) -> None:
    metadata = shared_data / "corpora" / "crema_d"
    (tmp_path / "AudioWAV").mkdir()
    for name in (metadata / "AudioWAV.filelist.txt").read_text().split():
        (tmp_path / name).touch()
    for name in ("VideoDemographics.csv", "SentenceFilenames.csv", "summaryTable.csv"):
        (tmp_path / name).symlink_to(metadata / name)
    agreed = {}
    for vote in ("intended", "voice", "multimodal"):
        entry = CremaDCorpus(recipe="crema_d", path=tmp_path, emotion=vote)
        rows = [row for row in open_corpus(entry, seed=1).rows if isinstance(row, Utterance)]
        agreed[vote] = [row.emotion for row in rows]
    assert len(rows) == 7442
    assert Counter(agreed["intended"]) == dict.fromkeys(
        ["angry", "disgust", "fear", "happy", "sad"], 1271
    ) | {"neutral": 1087}
    groups = Counter(age_group_of(row.age) for row in rows)
    assert groups == {"young adult": 4660, "middle-age adult": 2290, "senior": 492}
    actors = {row.speaker: (row.gender, age_group_of(row.age)) for row in rows}
    assert Counter(gender for gender, _ in actors.values()) == {"male": 48, "female": 43}
    assert Counter(group for _, group in actors.values()) == {
        "young adult": 57,
        "middle-age adult": 28,
        "senior": 6,
    }
    for vote, share in (("voice", 0.416), ("multimodal", 0.722)):
        equal = sum(heard == meant for heard, meant in zip(agreed[vote], agreed["intended"], strict=True))
        assert equal / len(rows) == pytest.approx(share, abs=5e-4)
