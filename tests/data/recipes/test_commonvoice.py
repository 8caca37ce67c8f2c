"""Common Voice: several languages and releases; missing columns, quotation marks, empty and damaged clips."""

from pathlib import Path

import pytest
from lhotse.recipes import prepare_commonvoice

from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text

COLUMNS = ["client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes"]
COLUMNS += ["age", "gender", "accents", "variant", "locale", "segment"]


def table(*rows: dict[str, str], columns: list[str] = COLUMNS) -> str:
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def row(number: int, sentence: str = "He was late.", **more: str) -> dict[str, str]:
    return {"client_id": "9f3c", "path": f"common_voice_en_{number}.mp3", "sentence": sentence, **more}


def language(root: Path, train: str, numbers: range, other: str = "") -> Path:
    for number in numbers:
        write_audio(root / f"clips/common_voice_en_{number}.mp3", rate=32_000)
    for split in ("train", "dev", "test"):
        write_text(root / f"{split}.tsv", train if split == "train" else other or table())
    return root


def test_rows_and_faults(tmp_path: Path) -> None:
    release = tmp_path / "cv-corpus-20.0-2024-12-06"
    train = table(
        row(1, '"Quoted', age="twenties", gender="male_masculine", accents="England English", locale="en"),
        row(2, age="fourties", gender="female_feminine"),
        row(3, age="sixties", gender="non-binary"),
        row(4),
        row(5),
        row(6),
        row(7, ""),
        row(8, "a\tb") | {"segment": "x"},
    )
    language(release / "en", train, range(1, 10))
    (release / "en/clips/common_voice_en_4.mp3").unlink()
    write_text(release / "en/clips/common_voice_en_5.mp3", "not an mp3" * 100)
    write_text(release / "en/clip_durations.tsv", "clip\tduration[ms]\ncommon_voice_en_6.mp3\t0\n")
    prepared = prepare("commonvoice", release)
    assert facts(prepared.train["common_voice_en_1"]) == {
        "text": '"Quoted',
        "language": "en",
        "speaker": "9f3c",
        "gender": "male",
        "age": "twenties",
        "age_group": "young adult",
        "accents": "England English",
    }
    assert facts(prepared.train["common_voice_en_2"])["age_group"] == "middle-age adult"
    senior = facts(prepared.train["common_voice_en_3"])
    assert (senior["age_group"], "gender" in senior) == ("senior", False)
    assert len(prepared.train) == 3
    assert prepared.rejects == {
        "common_voice_en_4": "audio missing",
        "common_voice_en_5": "audio unreadable",
        "common_voice_en_6": "audio empty",
        "common_voice_en_7": "no text",
        "train.tsv:9": "malformed row",
    }


def test_equals_lhotse(tmp_path: Path) -> None:
    release = tmp_path / "release"
    rows = [row(number, f"Sentence {number}.", age="teens", gender="female") for number in (1, 2)]
    language(release / "id", table(*rows), range(1, 3), other=table(row(3)))
    write_audio(release / "id/clips/common_voice_en_3.mp3")
    theirs = prepare_commonvoice(release, tmp_path / "lhotse", languages=["id"], splits=["train"])["id"][
        "train"
    ]
    ours = prepare("commonvoice", release, "splits=[train]").train
    assert ours.keys() == {said.id for said in theirs["supervisions"]}
    for said in theirs["supervisions"]:
        mine = ours[said.id].supervisions[0]
        assert (mine.text, mine.speaker, mine.language) == (said.text, said.speaker, said.language)
        assert mine.custom["age"] == said.custom["age"]
        assert abs(ours[said.id].duration - said.duration) < 1e-3


def test_languages_and_missing_columns(tmp_path: Path) -> None:
    release = tmp_path / "release"
    columns = ["client_id", "path", "sentence"]
    language(release / "zh-CN", table(row(1, "你好"), columns=columns), range(1, 2))
    language(release / "ja", table(row(2, "はい"), columns=columns), range(2, 3))
    language(release / "ko", table(row(3, "네"), columns=columns), range(3, 4))
    languages = {
        facts(cut)["text"]: facts(cut)["language"]
        for cut in prepare("commonvoice", release, "languages=[zh, ja]").train.values()
    }
    assert languages == {"你好": "zh", "はい": "ja"}
    assert len(prepare("common-voice", release / "ko").train) == 1
    assert "no language fr in it; there are: ja, ko, zh-CN" in refusal(
        "commonvoice", release, "languages=[fr]"
    )


def test_the_folder_of_one_language(tmp_path: Path) -> None:
    folder = language(tmp_path / "mycorpus", table(row(1, "你好")), range(1, 2))
    (cut,) = prepare("commonvoice", folder, "languages=[zh-CN]").train.values()
    assert facts(cut)["language"] == "zh"
    assert "its name is not a language's; give languages" in refusal("commonvoice", folder)
    assert "languages has zh, ja; give one" in refusal("commonvoice", folder, "languages=[zh, ja]")


@pytest.mark.parametrize("columns", [["client_id", "path"], ["sentence"]])
def test_a_column_that_must_be_there(tmp_path: Path, columns: list[str]) -> None:
    language(tmp_path / "en", table(columns=columns), range(1, 2))
    assert "train.tsv: no column" in refusal("commonvoice", tmp_path / "en")
