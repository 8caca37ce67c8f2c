"""AIR-Bench Chat: a judge gives the reference and the model 1 to 10 each, once in either order.

The column "Chat" of the AZeroS paper is the category of speech.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from azeros.evaluation.responses import Response
from azeros.evaluation.tally import NOTHING, Item, Ratio

CATEGORIES = {
    "speech_QA": "speech",
    "speech_dialogue_QA": "speech",
    "sound_QA": "sound",
    "sound_generation_QA": "sound",
    "music_QA": "music",
    "music_generation_analysis_QA": "music",
    "speech_and_sound_QA": "speech_and_sound",
    "speech_and_music_QA": "speech_and_music",
}
COLUMN = "speech"
PASSES = ("normal", "cir")  # the reference first, and the answers exchanged
_LOWEST, _HIGHEST = 1.0, 10
_ASK = """You are a helpful and precise assistant for checking the quality of the answer.
[Detailed Audio Description]
XAudioX
[Question]
XQuestionX
[The Start of Assistant 1s Answer]
XAssistant1X
[The End of Assistant 1s Answer]
[The Start of Assistant 2s Answer]
XAssistant2X
[The End of Assistant 2s Answer]
[System]
We would like to request your feedback on the performance of two AI assistants in response to the user question and \
audio description displayed above. AI assistants are provided with detailed audio descriptions and questions.
Please rate the helpfulness, relevance, accuracy, and comprehensiveness of their responses. \
Each assistant receives an overall score on a scale of 1 to 10, where a higher score indicates better overall performance. \
Please output a single line containing only two values indicating the scores for Assistant 1 and 2, respectively. \
The two scores are separated by a space."""


def audio_path(item: Mapping[str, Any]) -> str:
    """Path of the recording within the Chat folder of the data set; the prompt is the question alone."""
    return f"{item['task_name']}_{item['dataset_name']}/{item['path']}"


def result_row(item: Mapping[str, Any], response: str) -> dict[str, Any]:
    """The row of the official result file."""
    before = ("meta_info", "question", "answer_gt", "path", "task_name", "dataset_name")
    return {**{field: item[field] for field in before}, "response": response, "uniq_id": item["uniq_id"]}


def judge_request(row: Response, model: str, exchanged: bool = False) -> dict[str, Any]:
    """The body of the chat completion that judges `row`; `exchanged`: the model's answer comes first.

    A placeholder within an inserted text is replaced in its turn, as officially. Officially the temperature is 2.0 for
    a random half of the rows, and 1.0 for the others.

    Raises:
        BenchmarkError: a field is missing or not a string.
    """
    first, second = ("response", "answer_gt") if exchanged else ("answer_gt", "response")
    text = _ASK
    for placeholder, field in (
        ("XAudioX", "meta_info"),
        ("XQuestionX", "question"),
        ("XAssistant1X", first),
        ("XAssistant2X", second),
    ):
        text = text.replace(placeholder, row.text(field))
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 1.0,
        "max_tokens": 1024,
    }


def judged(row: Response, completions: Sequence[str]) -> dict[str, Any]:
    """The row with the judge's answer as the official scorer reads it; an empty one where there is none."""
    return {**row.fields, "gpt-score": completions[0] if completions else ""}


def pass_of(file_name: str) -> str:
    """Which pass a judge file holds: as officially its name says "cir", but here after any "normal".

    So the files of a system called "circus" tell their pass, circus-chat.normal.jsonl and circus-chat.cir.jsonl.
    """
    return "cir" if "cir" in file_name.rpartition("normal")[2] else "normal"


def parse_marks(judgement: str) -> tuple[int, int] | None:
    """Two whole numbers up to 10 and one space between them; None for anything else. There is no lower bound."""
    parts = _split(judgement)
    try:
        first, second = (int(part) for part in parts)
    except ValueError:
        return None
    return None if max(first, second) > _HIGHEST else (first, second)


def _split(judgement: str) -> list[str]:
    return judgement.strip().replace("\n", "").split(" ")


def score(rows: Sequence[Response], which: str, passes: Sequence[str] = ()) -> list[Item]:
    """One item a row: the model's mark in one pass.

    Args:
        rows: of one judge file.
        which: the pass that they are.
        passes: the passes that the figure is the mean of, each a part; `which` alone if empty.

    Raises:
        BenchmarkError: a row names no known task, or holds no judgement.
    """
    return [_item(row, which, passes or (which,)) for row in rows]


def _item(row: Response, which: str, passes: Sequence[str]) -> Item:
    task, judgement = row.text("task_name"), row.text("gpt-score")
    if task not in CATEGORIES:
        raise row.error(f"unknown task_name '{task}'; known are {', '.join(CATEGORIES)}")
    marks = parse_marks(judgement)
    if marks is None:
        lost = {"counted": False, "in_success_num": len(_split(judgement)) == 2}
        fields: dict[str, Any] = dict.fromkeys(PASSES, lost)
    else:
        first, second = marks
        common = {"counted": True, "category": CATEGORIES[task], "first": first, "second": second}
        fields = {"normal": {**common, "win": second > first}, "cir": {**common, "win": first > second}}
    if CATEGORIES[task] != COLUMN:
        return Item(fields, (NOTHING,) * len(passes), (NOTHING,) * len(passes))
    mark = None if marks is None else float(marks[0 if which == "cir" else 1])
    official = NOTHING if mark is None else (mark, 1.0)
    strict = (_LOWEST, 1.0) if mark is None else (mark, 1.0)
    return Item(
        fields,
        _in_pass(strict, which, passes),
        _in_pass(official, which, passes),
        fallbacks=int(mark is None),
    )


def _in_pass(ratio: Ratio, which: str, passes: Sequence[str]) -> tuple[Ratio, ...]:
    return tuple(ratio if name == which else NOTHING for name in passes)


def official_result(items: Iterable[Item], which: str) -> dict[str, Any]:
    """What the official script prints of one file: for each category its means and wins, and the counts.

    A category without items has no entry; there the official script divides by zero.
    """
    judged = [item.fields[which] for item in items]
    counted = [fields for fields in judged if fields["counted"]]
    categories = {}
    for category in dict.fromkeys(CATEGORIES.values()):
        found = [fields for fields in counted if fields["category"] == category]
        if found:
            categories[category] = {
                "sum": len(found),
                "win_rate": sum(fields["win"] for fields in found) / len(found),
                "gpt4_avg_score": sum(fields["first"] for fields in found) / len(found),
                "llm_avg_score": sum(fields["second"] for fields in found) / len(found),
            }
    return {"categories": categories, "fail_num": len(judged) - len(counted)}
