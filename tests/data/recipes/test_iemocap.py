"""IEMOCAP: who speaks is in the last field; undecided emotions, brackets and lines about nobody."""

from pathlib import Path

import pytest

from tests.data.recipes.miniature import facts, prepare, refusal, write_audio, write_text

EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-F1:\tNeutral;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[4.0000, 3.5000, 3.0000]
[19.2900 - 20.7875]\tSes01F_impro01_F003\txxx\t[2.5000, 3.0000, 3.0000]
[21.3257 - 24.7400]\tSes01F_impro01_M004\tang\t[2.5000, 3.5000, 3.5000]
[25.0000 - 26.0000]\tSes01F_impro01_M005\tfru\t[2.5000, 3.5000, 3.5000]
[27.0000 - 28.0000]\tSes01F_impro01_M006\tbor\t[2.5000, 3.5000, 3.5000]
[29.0000 - 30.0000] Ses01F_impro01_M007 sad
"""
TRANSCRIPT = """Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me. [LAUGHTER]
Ses01F_impro01_M001 [010.0100-011.3925]: Do you have your forms?
M: Overlapping words of nobody's turn
Ses01F_impro01_F003 [019.2900-020.7875]: Yeah.
Ses01F_impro01_M004 [021.3257-024.7400]: Let me see them.
Ses01F_impro01_M006 [027.0000-028.0000]: Well.
"""


def corpus(root: Path) -> Path:
    session = root / "Session1"
    write_text(session / "dialog/EmoEvaluation/Ses01F_impro01.txt", EVALUATION)
    write_text(session / "dialog/EmoEvaluation/._Ses01F_impro01.txt", "\x05")
    write_text(session / "dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt", EVALUATION)
    write_text(session / "dialog/transcriptions/Ses01F_impro01.txt", TRANSCRIPT)
    for name in ("F000", "M001", "F003", "M005", "M006", "M008"):
        write_audio(session / f"sentences/wav/Ses01F_impro01/Ses01F_impro01_{name}.wav")
    return root


def test_turns_and_faults(tmp_path: Path) -> None:
    prepared = prepare("iemocap", corpus(tmp_path / "IEMOCAP_full_release"))
    assert facts(prepared.train["Ses01F_impro01_F000"]) == {
        "text": "Excuse me.",
        "language": "en",
        "speaker": "Ses01F",
        "gender": "female",
        "emotion": "neutral",
        "emotion_raw": "neu",
        "valence": 2.5,
        "activation": 2.5,
        "dominance": 2.5,
    }
    man = facts(prepared.train["Ses01F_impro01_M001"])
    assert (man["speaker"], man["gender"], man["emotion"]) == ("Ses01M", "male", "excited")
    assert len(prepared.train) == 2
    assert prepared.rejects == {
        "Ses01F_impro01_F003": "no agreed emotion",
        "Ses01F_impro01_M004": "audio missing",
        "Ses01F_impro01_M005": "no text",
        "Ses01F_impro01_M006": "unknown emotion",
        "Ses01F_impro01": "malformed row",
        "Ses01F_impro01_M008": "not in the metadata",
    }


def test_options(tmp_path: Path) -> None:
    root = corpus(tmp_path / "IEMOCAP_full_release")
    prepared = prepare("iemocap", root, "keep_undecided=true", "merge_excited=true", "test_session=1")
    labels = {id: facts(cut).get("emotion") for id, cut in prepared.cuts["test"].items()}
    assert labels == {
        "Ses01F_impro01_F000": "neutral",
        "Ses01F_impro01_M001": "happy",
        "Ses01F_impro01_F003": None,
    }


@pytest.mark.parametrize(
    ("option", "words"), [("test_session=6", "'test_session' is 6"), ("split=1", "'split'")]
)
def test_a_wrong_option_is_named(tmp_path: Path, option: str, words: str) -> None:
    assert words in refusal("iemocap", tmp_path, option)


def test_a_session_without_evaluations(tmp_path: Path) -> None:
    (tmp_path / "IEMOCAP/Session1").mkdir(parents=True)
    assert "Session1: no evaluations" in refusal("iemocap", tmp_path / "IEMOCAP")
