"""What is said about a speaker, in one vocabulary for all corpora (spec/CORPORA.md section 0).

Each function takes the corpus's own spelling and returns ours, or None where nothing is known.
"""

from __future__ import annotations

_UNKNOWN = {"", "?", "na", "n/a", "none", "null", "unk", "unknown"}
_GENDERS = {
    "male": ("m", "male", "man", "male_masculine", "男"),
    "female": ("f", "female", "woman", "female_feminine", "女"),
}
_EMOTIONS = {
    "angry": ("ang", "anger", "angry"),
    "disgust": ("dis", "disgust", "disgusted"),
    "fear": ("fea", "fear", "fearful"),
    "happy": ("hap", "happy", "joy", "happiness"),
    "neutral": ("neu", "neutral"),
    "sad": ("sad", "sadness"),
    "frustrated": ("fru", "frustrated", "frustration"),
    "excited": ("exc", "excited", "excitement"),
    "surprised": ("sur", "surprise", "surprised", "ps", "pleasant_surprise", "pleasant_surprised"),
    "calm": ("calm",),
    "other": ("oth", "other"),
}
_AGE_GROUPS = (
    (18, "teenager"),
    (40, "young adult"),
    (61, "middle-age adult"),
    (200, "senior"),
)  # below years
# Common Voice's decades. Its `teens` holds the 18-year-olds too, its `sixties` the 60-year-olds.
_DECADES = {
    "teens": "teenager",
    "twenties": "young adult",
    "thirties": "young adult",
    "fourties": "middle-age adult",
    "forties": "middle-age adult",
    "fifties": "middle-age adult",
    "sixties": "senior",
    "seventies": "senior",
    "eighties": "senior",
    "nineties": "senior",
}
_GENDER_OF = {spelling: label for label, spellings in _GENDERS.items() for spelling in spellings}
_EMOTION_OF = {spelling: label for label, spellings in _EMOTIONS.items() for spelling in spellings}

GENDERS = tuple(_GENDERS)
EMOTIONS = tuple(_EMOTIONS)
AGE_GROUPS = tuple(group for _, group in _AGE_GROUPS)


def known(raw: object) -> str | None:
    """The text stripped and in lower case; None for an empty one and for the ways to say that it is unknown."""
    word = "" if raw is None else str(raw).strip().lower()
    return None if word in _UNKNOWN else word


def gender_of(raw: object) -> str | None:
    """`male` or `female`; None for everything else."""
    return _GENDER_OF.get(known(raw) or "")


def emotion_of(raw: object) -> str | None:
    """One of `EMOTIONS`, or None where there is no label.

    Raises:
        ValueError: a word that is in none of the vocabularies.
    """
    word = known(raw)
    if word is None:
        return None
    if word not in _EMOTION_OF:
        raise ValueError(f"emotion is {raw!r}; the labels are {', '.join(EMOTIONS)}")
    return _EMOTION_OF[word]


def age_group_of(age: object) -> str | None:
    """The group of an age in years (a number, or text that is one); None if unknown or impossible."""
    try:
        years = int(age)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None
    return next((group for below, group in _AGE_GROUPS if 0 < years < below), None)


def decade_group_of(decade: str) -> str | None:
    """The group of one of Common Voice's decades; None if unknown."""
    return _DECADES.get(known(decade) or "")
