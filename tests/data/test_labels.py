"""What corpora call things becomes one vocabulary; ages are grouped as the reference groups them."""

import json
from pathlib import Path

import pytest

from azeros.data.labels import AGE_GROUPS, EMOTIONS, age_group_of, decade_group_of, emotion_of, gender_of


@pytest.mark.parametrize(
    ("label", "spellings"),
    [
        ("angry", "ang anger angry ANG"),
        ("disgust", "dis disgust disgusted"),
        ("fear", "fea fear fearful"),
        ("happy", "hap happy joy happiness"),
        ("sad", "sad sadness"),
        ("neutral", "neu neutral"),
        ("surprised", "sur surprise surprised ps"),
        ("excited", "exc"),
        ("frustrated", "fru"),
        ("calm", "calm"),
        ("other", "oth"),
    ],
)
def test_emotions_of_all_corpora(label: str, spellings: str) -> None:
    assert {emotion_of(word) for word in spellings.split()} == {label}
    assert label in EMOTIONS


def test_what_is_not_known() -> None:
    for unknown in ("", None, " NA", "unk", "null"):
        assert emotion_of(unknown) is gender_of(unknown) is None
    assert {gender_of(word) for word in ("transgender", "non-binary", "do_not_wish_to_say")} == {None}
    with pytest.raises(ValueError, match="'bored'; the labels are angry, disgust"):
        emotion_of("bored")


def test_genders_of_all_corpora() -> None:
    assert {gender_of(word) for word in ("m", "M", "Male", "male_masculine", "男")} == {"male"}
    assert {gender_of(word) for word in ("f", "F", "Female", "female_feminine", "女")} == {"female"}


def test_decades() -> None:
    decades = ["teens", "twenties", "thirties", "fourties", "fifties", "sixties", "nineties", ""]
    groups = [AGE_GROUPS[i] for i in (0, 1, 1, 2, 2, 3, 3)]
    assert [decade_group_of(decade) for decade in decades] == [*groups, None]


def test_age_groups_equal_the_reference(golden: Path) -> None:
    for row in json.loads((golden / "sift" / "sift.json").read_text())["age_to_group"]:
        # The reference calls an age of 0 or less a young adult's; here it is unknown.
        group = "null" if row["age"] in (0, -3) else row["group"]
        assert (age_group_of(row["age"]) or "null") == group


def test_impossible_ages() -> None:
    impossible: list[object] = [float("nan"), float("inf"), [3], {}, b"x", -1, "0"]
    assert {age_group_of(age) for age in impossible} == {None}
