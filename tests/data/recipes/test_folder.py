"""Recipe `folder`: each row of the metadata comes out, as an utterance or as a reject with its reason."""

import json
import os
from pathlib import Path

import pytest

from azeros.data.audio import load_cut
from azeros.data.recipes import Reject, Utterance, open_corpus
from azeros.errors import CorpusError
from azeros.params import FolderCorpus
from tests.data.recipes.miniature import prepare, write_audio


def rows(folder: Path) -> list[Utterance | Reject]:
    source = open_corpus(FolderCorpus(recipe="folder", path=folder, language="en"), seed=1)
    found = list(source.rows)
    assert len(found) == source.num_rows
    return found


def reasons(folder: Path) -> list[str]:
    return [row.reason if isinstance(row, Reject) else "" for row in rows(folder)]


def test_every_column(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(
        "file_name,text,language,speaker,gender,age,age_group,emotion,split,mood\n"
        'd/a.wav,"Well, hello",ZH,Ann,F,34,,Happy,dev,x\n'
        "b.flac,bye,,,unknown,,Senior,,test,\n"
    )
    assert rows(tmp_path) == [
        Utterance(
            "d-a",
            "validation",
            tmp_path / "d/a.wav",
            "Well, hello",
            "zh",
            "Ann",
            "female",
            "34",
            None,
            "happy",
        ),
        Utterance("b", "test", tmp_path / "b.flac", "bye", "en", age_group="senior"),
    ]


def test_json_lines_say_the_same_as_csv(tmp_path: Path) -> None:
    for folder in ("csv", "jsonl"):
        (tmp_path / folder).mkdir()
    (tmp_path / "csv/metadata.csv").write_text("\ufefffile_name,text,age\na.wav, hi,40\n", encoding="utf-8")
    record = {"file_name": "a.wav", "text": "hi", "age": 40, "gender": None}
    (tmp_path / "jsonl/metadata.jsonl").write_text(json.dumps(record) + "\n\n")
    first, second = rows(tmp_path / "csv")[0], rows(tmp_path / "jsonl")[0]
    assert isinstance(first, Utterance)
    assert isinstance(second, Utterance)
    assert (first.id, first.text, first.age) == (second.id, second.text, second.age) == ("a", "hi", "40")


def test_a_folder_for_each_split(tmp_path: Path) -> None:
    for folder in ("train", "valid", "test"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metadata.csv").write_text("file_name,text\na.wav,hi\n")
    assert sorted((row.id, row.split) for row in rows(tmp_path) if isinstance(row, Utterance)) == [
        ("test-a", "test"),
        ("train-a", "train"),
        ("valid-a", "validation"),
    ]


def test_no_row_and_no_recording_is_lost(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(
        "file_name,text,age,split\na.wav,hi,,\nb.wav,hi,x,\nc.wav,hi,9,tset\n"
        ",hi,9,\nd.wav,hi, there,9,\ne.wav\n"
    )
    for name in ("a.wav", "more/z.MP3", "more/._z.MP3", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    wanted = ["", "bad age", "unknown split", "no file_name", *["malformed row"] * 2, "not in the metadata"]
    assert reasons(tmp_path) == wanted
    rejects = [row for row in rows(tmp_path) if isinstance(row, Reject)]
    assert "metadata.csv:3" in rejects[0].detail
    assert rejects[-1].id == "more/z.MP3"


def test_malformed_json_lines(tmp_path: Path) -> None:
    lines = ['{"file_name": "a.wav", "text": 7}', "{", "[]", '{"text": "x"}', '{"file_name": "b.wav"}']
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    assert reasons(tmp_path) == ["text is not text", "malformed row", "malformed row", "no file_name", ""]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no metadata.csv or metadata.jsonl"),
        ({"metadata.csv": b"file,text\n"}, "no column file_name; its first line names file, text"),
        ({"metadata.csv": b""}, "no column file_name and text; its first line names none"),
        (
            {"metadata.csv": b"file_name,text\n", "metadata.jsonl": b""},
            "both metadata.csv and metadata.jsonl",
        ),
        ({"metadata.csv": "file_name,text\na.wav,é\n".encode("latin-1")}, "not UTF-8"),
        ({"metadata.csv": b'file_name,text\na.wav,"hi\n'}, "metadata.csv: not CSV after line 1"),
    ],
)
def test_a_corpus_that_is_not_one(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        rows(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        rows(tmp_path / "gone")


def test_recordings_of_one_name_in_two_formats(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(
        "file_name,text\na.wav,hi\na.flac,hi\nb/a.wav,hi\nc.wav,hi\nc.wav,hi\n"
    )
    assert [row.id for row in rows(tmp_path)] == ["a-wav", "a-flac", "b-a", "c", "c"]


def test_labels_in_other_words(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(
        "file_name,text,gender,emotion,age_group,age\n"
        "a.wav,hi,M,joy,Young adult,\nb.wav,hi,,bored,,\nc.wav,hi,,,child,\nd.wav,hi,Female,SAD,,61.0\n"
    )
    assert reasons(tmp_path) == ["", "unknown emotion", "unknown age_group", ""]
    first, last = (row for row in rows(tmp_path) if isinstance(row, Utterance))
    assert (first.gender, first.emotion, first.age_group) == ("male", "happy", "young adult")
    assert (last.gender, last.emotion, last.age) == ("female", "sad", "61")


def test_genders_and_columns_that_are_not_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metadata.csv").write_text(
        "file_name,text,gender,langauge\na.wav,hi,woman,zh\nb.wav,hi,lady,zh\nc.wav,hi,?,zh\n"
        "d.wav,hi,Non-Binary,zh\n"
    )
    assert reasons(tmp_path) == ["", "unknown gender", "", ""]
    (warning,) = {record.getMessage() for record in caplog.records}
    assert "'langauge' not used; the columns are file_name, text, language" in warning


def test_names_and_texts_that_are_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "wavs"
    for name in ("a", "b"):
        write_audio(folder / f"{name}.wav")
    (folder / os.fsdecode(b"caf\xe9.wav")).write_bytes((folder / "a.wav").read_bytes())
    records = [("a.wav", "hi"), ("b.wav", "hi \ud83d"), ("c\0.wav", "hi"), ("\ud83d.wav", "hi")]
    lines = [json.dumps({"file_name": name, "text": text}) + "\n" for name, text in records]
    (folder / "metadata.jsonl").write_text("".join(lines))
    prepared = prepare("folder", folder)
    assert list(prepared.train) == ["a"]
    assert prepared.rejects == {
        "b": "not UTF-8",
        "c\0": "audio missing",
        "\ud83d": "not UTF-8",
        "caf\udce9.wav": "not in the metadata",
    }


def test_recordings_of_every_kind(shared_data: Path, tmp_path: Path) -> None:
    """Every codec, 8 to 48 kHz, one to six channels: all come out at 16 kHz."""
    recordings = sorted((shared_data / "speech" / "misc").iterdir())
    lines = []
    for path in recordings:
        (tmp_path / path.name).symlink_to(path)
        lines.append(json.dumps({"file_name": path.name, "text": "words"}) + "\n")
    (tmp_path / "metadata.jsonl").write_text("".join(lines))
    prepared = prepare("folder", tmp_path, "language=en")
    assert len(prepared.train) == len(recordings) == 12
    assert not prepared.rejects
    suffixes = {Path(cut.recording.sources[0].source).suffix for cut in prepared.train.values()}
    assert suffixes == {".wav", ".flac", ".mp3", ".opus", ".mp4", ".sph"}
    for cut in prepared.train.values():
        assert len(load_cut(cut)) == pytest.approx(cut.num_samples, abs=1)


def test_spoken_digits(shared_data: Path, tmp_path: Path) -> None:
    """2,000 people's recordings at 8 kHz, some of them shorter than the encoders can use."""
    lines = ["file_name,text,speaker\n"]
    for path in sorted((shared_data / "speech" / "fsdd").glob("*.wav")):
        (tmp_path / path.name).symlink_to(path)
        digit, speaker, _ = path.stem.split("_")
        lines.append(f"{path.name},{digit},{speaker}\n")
    (tmp_path / "metadata.csv").write_text("".join(lines))
    prepared = prepare("folder", tmp_path)
    assert len(prepared.train) + len(prepared.rejects) == 2000
    assert set(prepared.rejects.values()) == {"audio too short"}
    assert {cut.supervisions[0].speaker for cut in prepared.train.values()} == {
        "george",
        "jackson",
        "lucas",
        "nicolas",
    }
