"""RAVDESS: seven fields in a name; songs, copies and other names are left out by name."""

from pathlib import Path

from tests.data.recipes.miniature import facts, prepare, refusal, write_audio


def test_names(tmp_path: Path) -> None:
    root = tmp_path / "RAVDESS"
    for number in range(1, 9):
        write_audio(root / f"Actor_12/03-01-0{number}-01-02-01-12.wav", rate=48_000)
    write_audio(root / "Actor_01/03-01-06-02-01-02-01.wav", rate=48_000, channels=2)
    write_audio(root / "copy/Actor_01/03-01-06-02-01-02-01.wav", rate=48_000)
    write_audio(root / "Actor_01/03-02-06-02-01-02-01.wav", rate=48_000)
    write_audio(root / "Actor_01/03-01-01-02-01-02-01.wav", rate=48_000)
    write_audio(root / "Actor_25/03-01-02-01-01-01-25.wav", rate=48_000)
    prepared = prepare("ravdess", root)
    assert facts(prepared.train["03-01-06-01-02-01-12"]) == {
        "text": "Dogs are sitting by the door",
        "language": "en",
        "speaker": "Actor_12",
        "gender": "female",
        "emotion": "fear",
        "emotion_raw": "06",
        "intensity": "normal",
    }
    man = facts(prepared.train["03-01-06-02-01-02-01"])
    assert (man["text"], man["gender"]) == ("Kids are talking by the door", "male")
    labels = [facts(prepared.train[f"03-01-0{number}-01-02-01-12"])["emotion"] for number in range(1, 9)]
    assert labels == ["neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprised"]
    assert prepared.rejects == {
        "03-02-06-02-01-02-01": "not speech alone",
        "03-01-01-02-01-02-01": "unknown name",
        "03-01-02-01-01-01-25": "unknown name",
        "copy/Actor_01/03-01-06-02-01-02-01.wav": "copy of a recording",
    }


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "no wav file in it" in refusal("ravdess", tmp_path)
