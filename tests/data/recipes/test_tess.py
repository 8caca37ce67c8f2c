"""TESS: flat or in folders, at 24.4 and 96 kHz, with the corpus's own misspelling."""

from pathlib import Path

from tests.data.recipes.miniature import facts, prepare, write_audio, write_text


def test_names(tmp_path: Path) -> None:
    root = tmp_path / "TESS"
    write_text(root / "MANIFEST.TXT", "")
    for name in ("OAF_back_ps", "OA_bite_neutral", "YAF_germ_angry", "OAF_bean_Bored", "UAF_bean_sad"):
        write_audio(root / f"{name}.wav", rate=24_414)
    write_audio(root / "OAF_food_fear.wav", rate=96_000)
    write_audio(root / "OAF_Pleasant_surprise/OAF_back_PS.wav", rate=24_414)
    write_audio(root / "OAF_Pleasant_surprise/OAF_back_ps.wav", rate=24_414)
    write_text(root / "YAF_neat_fear.wav", "RIFF")
    prepared = prepare("tess", root)
    assert facts(prepared.train["OAF_back_ps"]) == {
        "text": "Say the word back",
        "language": "en",
        "speaker": "OAF",
        "gender": "female",
        "age": "64",
        "age_group": "senior",
        "emotion": "surprised",
        "emotion_raw": "ps",
    }
    assert facts(prepared.train["OA_bite_neutral"])["speaker"] == "OAF"
    young = facts(prepared.train["YAF_germ_angry"])
    assert (young["speaker"], young["age"], young["age_group"]) == ("YAF", "26", "young adult")
    assert prepared.train["OAF_food_fear"].duration == 1
    assert facts(prepared.train["OAF_back_PS"])["emotion"] == "surprised"
    assert prepared.rejects == {
        "OAF_bean_Bored": "unknown name",
        "UAF_bean_sad": "unknown name",
        "YAF_neat_fear": "audio unreadable",
        "OAF_Pleasant_surprise/OAF_back_ps.wav": "copy of a recording",
    }
