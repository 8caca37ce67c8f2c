"""AIR-Bench from a local folder as its authors publish it: Foundation/ and Chat/, each with a list of its items.

Of Foundation the six tasks of the AZeroS paper's table are taken, of Chat the two of speech (spec/BENCHMARKS.md 2.1, 2.3).
No transcripts come with it: only systems that hear can be asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from azeros.errors import BenchmarkError
from azeros.evaluation.airbench import chat, foundation
from azeros.evaluation.samples import Part, Sample, SampleSet
from azeros.evaluation.systems.base import Recording, Request

# Rows of each column of the table; datasets of one task are pooled.
NUM_FOUNDATION = {"gender": 1992, "emotion": 2000, "age": 1000, "lid": 1000, "entity": 1000, "intent": 1000}
_FIELDS = {
    "foundation": ("path", "question", "answer_gt", "task_name", "dataset_name", "uniq_id"),
    "chat": ("meta_info", "question", "answer_gt", "path", "task_name", "dataset_name", "uniq_id"),
}
_SPLIT = "speech"


def read_set(subset: str, data: Path) -> SampleSet:
    """The rows of speech in Foundation or in Chat.

    Raises:
        BenchmarkError: no such set, or its list of items is missing or not what it should be.
    """
    match subset:
        case "foundation":
            tasks = {task: column for column, task in foundation.COLUMNS.items()}
            return _read(
                "foundation", data / "Foundation", tasks, foundation.audio_path, foundation.instruction
            )
        case "chat":
            tasks = {task: task for task, category in chat.CATEGORIES.items() if category == chat.COLUMN}
            return _read("chat", data / "Chat", tasks, chat.audio_path, lambda item: str(item["question"]))
    raise BenchmarkError(f"airbench has no set '{subset}'; it has foundation, chat")


def _read(
    subset: str,
    folder: Path,
    tasks: Mapping[str, str],
    audio_path: Callable[[Mapping[str, Any]], str],
    instruction: Callable[[Mapping[str, Any]], str],
) -> SampleSet:
    samples = []
    rows, silent = dict.fromkeys(tasks.values(), 0), dict.fromkeys(tasks.values(), 0)
    result_row = foundation.result_row if subset == "foundation" else chat.result_row
    for item in _read_items(folder / f"{folder.name}_meta.json", _FIELDS[subset]):
        part = tasks.get(item["task_name"])
        if part is None:
            continue
        rows[part] += 1
        path = folder / audio_path(item)
        if not path.is_file():
            silent[part] += 1
            continue
        recording = Recording(str(path), path.stat().st_size, path.read_bytes)
        samples.append(
            Sample(
                Request(recording, instruction(item), None, subset == "foundation"), partial(result_row, item)
            )
        )
    official = NUM_FOUNDATION if subset == "foundation" else {}
    parts = [Part(part, num, silent[part], official.get(part)) for part, num in rows.items()]
    return SampleSet("airbench", subset, _SPLIT, samples, parts)


def _read_items(path: Path, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError(
            f"{path}: {error.strerror}; give the folder of AIR-Bench that Foundation and Chat lie in"
        ) from error
    except ValueError as error:
        raise BenchmarkError(f"{path}: not a JSON list ({error}); fetch it again") from error
    if not isinstance(items, list):
        raise BenchmarkError(f"{path}: not a JSON list; fetch it again")
    for number, item in enumerate(items, 1):
        missing = [field for field in fields if not isinstance(item, dict) or field not in item]
        if missing:
            raise BenchmarkError(f"{path}: item {number} has no {', '.join(missing)}; fetch it again")
    return items
