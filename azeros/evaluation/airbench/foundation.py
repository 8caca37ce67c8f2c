"""AIR-Bench Foundation: a letter of up to four choices; the six speech tasks of the AZeroS paper's table.

A failure to parse is officially left out of the denominator, and strictly a wrong answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from azeros.evaluation.responses import Response
from azeros.evaluation.tally import NOTHING, Item, Ratio, failed, share

# The columns of the table, and the tasks as the data set spells them; two data sets of one task are pooled.
COLUMNS = {
    "gender": "Speaker_Gender_Recognition",
    "emotion": "Speaker_Emotion_Recontion",
    "age": "Speaker_Age_Prediction",
    "lid": "Spoken_Language_Identification",
    "entity": "Speech_Entity_Reconition",
    "intent": "Speaker_Intent_Classification",
}
_CHOICES = {"A": "choice_a", "B": "choice_b", "C": "choice_c", "D": "choice_d"}
_ASK = (
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, you may only"
    " choose A or B or C or D."
)


def instruction(item: Mapping[str, Any]) -> str:
    """The text that follows the audio; an absent choice is printed as None."""
    return f"{_ASK}\n{item['question']}\n" + "\n".join(
        f"{letter}. {item.get(field)}" for letter, field in _CHOICES.items()
    )


def audio_path(item: Mapping[str, Any]) -> str:
    """Path of the recording within the Foundation folder of the data set."""
    path = item["path"]
    if item["task_name"] == "Audio_Grounding":
        path = path[:-3] + "flac"
    return f"{item['task_name']}_{item['dataset_name']}/{path}"


def result_row(item: Mapping[str, Any], response: str) -> dict[str, Any]:
    """The row of the official result file."""
    before = ("path", "question")
    after = ("answer_gt", "task_name", "dataset_name")
    return {
        **{field: item[field] for field in before},
        **{field: item.get(field) for field in _CHOICES.values()},
        **{field: item[field] for field in after},
        "response": response,
        "uniq_id": item["uniq_id"],
    }


def find_letter(response: str) -> str | None:
    """The first character, else the last but one, if it is A, B, C or D; "All of them" is A."""
    text = response.strip().replace("\n", "")
    if not text or text == "None":
        return None
    if text[0] in _CHOICES:
        return text[0]
    return text[-2] if len(text) > 1 and text[-2] in _CHOICES else None


def score(rows: Sequence[Response]) -> list[Item]:
    """One item a row, its ratio in the part of its column; a row of another task has none."""
    return [_item(row) for row in rows]


def _item(row: Response) -> Item:
    if "task_name" not in row.fields:
        raise row.error("no field 'task_name'")
    task = row.fields["task_name"]
    if task is None:  # the official script passes over such a row
        return Item({"counted": False}, (NOTHING,) * len(COLUMNS), (NOTHING,) * len(COLUMNS))
    try:
        # The official script calls string methods on whatever stands there.
        found = find_letter(row.fields["response"])
        answer = row.fields["answer_gt"]
    except KeyError as error:
        raise row.error(f"no field {error}") from error
    except AttributeError:
        return failed("AttributeError", _in_column(task, share(False)), _crash("AttributeError"))
    if found is None:
        lost, left_out = _in_column(task, share(False)), _in_column(task, NOTHING)
        return Item({"counted": False}, lost, left_out, fallbacks=1)
    right = next((letter for letter, field in _CHOICES.items() if row.fields.get(field) == answer), None)
    if right is None:
        return failed("SystemExit(1)", _in_column(task, share(False)), _crash("SystemExit(1)"))
    fields = {"counted": True, "pred": found, "gt": right, "correct": found == right}
    ratios = _in_column(task, share(found == right))
    return Item(fields, ratios, ratios)


def _crash(error: str) -> dict[str, Any]:
    return {"counted": False, "crash": error}


def _in_column(task: str, ratio: Ratio) -> tuple[Ratio, ...]:
    return tuple(ratio if name == task else NOTHING for name in COLUMNS.values())


def official_result(rows: Sequence[Response], items: Sequence[Item]) -> dict[str, Any]:
    """What the official script prints: accuracies of each task and data set, and the counts.

    It raises at the end if none of a task's items was counted.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row, item in zip(rows, items, strict=True):
        if row.fields["task_name"] is not None:
            name = f"{row.fields['task_name']}_{row.fields.get('dataset_name')}"
            counts[name]["sum"] += item.fields["counted"]
            counts[name]["correct"] += item.fields.get("correct", False)
    if any(not count["sum"] for count in counts.values()):
        return {"error": "KeyError", "tasks": {}, "total_sum": None, "fail_num": None}
    return {
        "error": None,
        "tasks": {name: {**count, "acc": count["correct"] / count["sum"]} for name, count in counts.items()},
        "total_sum": sum(count["sum"] for count in counts.values()),
        "fail_num": sum(item.fallbacks for item in items),
    }
