"""MELD: ids of three splits, two encodings, superseded clips, groups of speakers; and all rows of the real files."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from azeros.data.recipes import Utterance, open_corpus
from azeros.params import SplitCorpus
from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text

HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\r\n"
)
ROW = '{number},"{text}",{speaker},{emotion},neutral,{dialog},{utterance},8,21,"00:16:16,059","00:16:21,731"\r\n'


def table(*rows: tuple[str, str, str], dialog: int = 0) -> str:
    return HEADER + "".join(
        ROW.format(number=i + 1, text=text, speaker=speaker, emotion=emotion, dialog=dialog, utterance=i)
        for i, (text, speaker, emotion) in enumerate(rows)
    )


def test_splits_gender_and_faults(tmp_path: Path) -> None:
    root = tmp_path / "MELD.Raw"
    train = table(
        ("also I was the point person on my company’s transition.", "Chandler", "neutral"),
        ("Hi, there! [she gets up]", "Mrs. Geller", "joy"),
        ("Wow!", "Joey and Chandler", "surprise"),
        ("(Singing, to the tune of", "Phoebe", "joy"),
        ("Gone.", "Monica", "fear"),
        ("Damaged.", "Ross", "anger"),
        ("Hm.", "The Interviewer", "puzzled"),
    )
    write_text(root / "train_sent_emo.csv", train)
    for number in (0, 1, 2, 3, 6, 9):
        write_audio(root / f"train_splits/dia0_utt{number}.wav")
    write_text(root / "train_splits/dia0_utt5.wav", "no sound")
    write_text(root / "dev_sent_emo.csv", table(("Yes.", "Rachel", "sadness")))
    write_audio(root / "dev_splits_complete/dia0_utt0.wav", channels=2, rate=48_000)
    write_text(root / "test_sent_emo.csv", table(("No.", "All", "disgust")))
    write_audio(root / "output_repeated_splits_test/dia0_utt0.wav", seconds=3)
    write_audio(root / "output_repeated_splits_test/final_videos_testdia0_utt0.wav", seconds=2)
    prepared = prepare("meld", root)
    assert facts(prepared.train["train_dia0_utt0"]) == {
        "text": "also I was the point person on my company's transition.",
        "language": "en",
        "speaker": "Chandler",
        "gender": "male",
        "emotion": "neutral",
        "emotion_raw": "neutral",
    }
    married = facts(prepared.train["train_dia0_utt1"])
    assert (married["text"], married["gender"], married["emotion"]) == ("Hi, there!", "female", "happy")
    assert facts(prepared.train["train_dia0_utt2"]).keys() == {"text", "language", "emotion", "emotion_raw"}
    assert facts(prepared.cuts["validation"]["dev_dia0_utt0"])["emotion"] == "sad"
    assert prepared.cuts["test"]["test_dia0_utt0"].duration == pytest.approx(2)
    assert prepared.rejects == {
        "train_dia0_utt3": "no text",
        "train_dia0_utt4": "audio missing",
        "train_dia0_utt5": "audio unreadable",
        "train_dia0_utt6": "unknown emotion",
        "train_dia0_utt9": "not in the metadata",
    }


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1 in utf-8", "utf-8-sig"])
def test_older_copies(tmp_path: Path, encoding: str) -> None:
    content = table(("It’s “fine” – really…", "Ross", "neutral"))
    if encoding == "latin-1 in utf-8":
        content, encoding = content.encode("cp1252").decode("latin-1"), "utf-8"
    write_text(tmp_path / "MELD/train_sent_emo.csv", content, encoding)
    write_audio(tmp_path / "MELD/MELD_train_wav/dia0_utt0.wav")
    prepared = prepare("meld", tmp_path / "MELD", "splits=[train]")
    assert facts(prepared.train["train_dia0_utt0"])["text"] == 'It\'s "fine" – really…'


def test_without_clips(tmp_path: Path) -> None:
    write_text(tmp_path / "MELD/train_sent_emo.csv", HEADER)
    assert "no clips dia0_utt0.wav" in refusal("meld", tmp_path / "MELD")


MAIN_CAST = {"Chandler", "Joey", "Ross", "Monica", "Rachel", "Phoebe"}
# happy is joy
EMOTIONS = {
    "neutral": [4710, 470, 1256],
    "happy": [1743, 163, 402],
    "surprised": [1205, 150, 281],
    "angry": [1109, 153, 345],
    "sad": [683, 111, 208],
    "disgust": [271, 22, 68],
    "fear": [268, 40, 50],
}


def test_all_rows(shared_data: Path, tmp_path: Path) -> None:
    for official in ("train", "dev", "test"):
        source = shared_data / "corpora" / "meld" / f"{official}_sent_emo.csv"
        (tmp_path / source.name).symlink_to(source)
        folder = tmp_path / f"{official}_splits"
        folder.mkdir()
        with source.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                (folder / f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}.mp4").touch()
    entry = SplitCorpus(recipe="meld", path=tmp_path, splits=["train", "validation", "test"])
    rows = [row for row in open_corpus(entry, seed=1).rows if isinstance(row, Utterance)]
    of_split = [[row for row in rows if row.split == split] for split in ("train", "validation", "test")]
    assert [len(part) for part in of_split] == [9989, 1109, 2610]
    assert [len({row.id.split("_")[1] for row in part}) for part in of_split] == [1038, 114, 280]
    assert len({row.id for row in rows}) == len(rows)
    counts = [Counter(row.emotion for row in part) for part in of_split]
    assert {label: [count[label] for count in counts] for label in EMOTIONS} == EMOTIONS
    shares = [sum(row.speaker in MAIN_CAST for row in part) / len(part) for part in of_split]
    assert shares == pytest.approx([0.832, 0.859, 0.826], abs=5e-4)
    assert all(row.gender for row in rows if row.speaker in MAIN_CAST)
    assert not [row.text for row in rows if set("()[]\u2018\u2019") & set(row.text or "")]
