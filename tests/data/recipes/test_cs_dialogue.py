"""CS-Dialogue: language tags and markup, a table with blanks, ids that are missing somewhere."""

from pathlib import Path

import pytest

from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text

NAME = "ZH-CN_U0001_S0"
INFORMATION = (
    "Speaker ID\tGender \tAge\tRegion\tDevice\tTopic\tWAVE ID \tTAG\tSCRIPT\n"
    f"0001\tF\t24\tFujian\tAndroid\twork\t{NAME}_4.wav \t<MIX>\t嗯\n"
)
TEXTS = {
    2: "<CN> 嗨。",
    4: "<MIX> 嗯，我是 Luna ，<FIL/>你现在。",
    5: "<EN> Yeah, <SPK/>sure.",
    6: "<CN> <NON/>",
    7: "<CN> 走了。",
}


def corpus(root: Path, recordings: str) -> Path:
    lines = [f"{NAME}_{number}\t{text}" for number, text in TEXTS.items()]
    index = root / "data/index/short_wav/train"
    write_text(index / "text", "\n".join([*lines, f"{NAME}_8 没有录音。"]) + "\n")
    wavs = [f"{NAME}_{number} short_wav/WAVE/C0/{NAME}/{NAME}_{number}.wav" for number in (2, 4, 5, 6, 7, 9)]
    write_text(index / "wav.scp", "\n".join(wavs) + "\n")
    write_text(root / "data/index/total_information/Information_Index.txt", INFORMATION)
    write_text(root / f"data/{recordings}/SCRIPT/{NAME}.txt", "\n".join(lines))
    for number in (2, 4, 5, 6, 9):
        write_audio(root / f"data/{recordings}/WAVE/C0/{NAME}/{NAME}_{number}.wav")
    return root


@pytest.mark.parametrize("recordings", ["short_wav", "short_wav/short_wav"])
def test_tags_and_faults(tmp_path: Path, recordings: str) -> None:
    prepared = prepare("cs_dialogue", corpus(tmp_path / "CS-Dialogue", recordings))
    assert facts(prepared.train[f"{NAME}_4"]) == {
        "text": "嗯，我是 Luna ，你现在。",
        "language": "zh",
        "speaker": "ZH-CN_U0001",
        "gender": "female",
        "age": "24",
        "age_group": "young adult",
        "language_tag": "MIX",
    }
    assert facts(prepared.train[f"{NAME}_2"]).keys() == {"text", "language", "speaker", "language_tag"}
    english = facts(prepared.train[f"{NAME}_5"])
    assert (english["text"], english["language"]) == ("Yeah, sure.", "en")
    assert len(prepared.train) == 3
    assert prepared.rejects == {
        f"{NAME}_6": "no text",
        f"{NAME}_7": "audio missing",
        f"{NAME}_8": "audio missing",
        f"{NAME}_9": "no text",
    }


def test_tags_of_the_scripts(tmp_path: Path) -> None:
    root = corpus(tmp_path / "CS-Dialogue", "short_wav")
    write_text(root / "data/index/short_wav/dev/text", f"{NAME}_5 Yeah, sure.\n")
    write_text(root / "data/index/short_wav/dev/wav.scp", f"{NAME}_5 short_wav/WAVE/C0/{NAME}/{NAME}_5.wav\n")
    prepared = prepare("cs-dialogue", root, "splits=[validation]")
    assert facts(prepared.cuts["validation"][f"{NAME}_5"])["language_tag"] == "EN"


def test_no_index(tmp_path: Path) -> None:
    write_audio(tmp_path / "CS/data/short_wav/WAVE/C0/a/a.wav")
    assert "no index/short_wav" in refusal("cs_dialogue", tmp_path / "CS")
