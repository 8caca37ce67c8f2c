"""What VoiceBench asks its judge about a row, and how the answers are stored and read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from azeros.evaluation.responses import Response

_SYSTEM = "You are a helpful assistant who tries to help answer the user's question."
_OPEN = """
I need your help to evaluate the performance of several models in the speech interaction scenario. The models will receive a speech input from the user, which they need to understand and respond to with a speech output.
Your task is to rate the model’s responses based on the provided user input transcription [Instruction] and the model’s output transcription [Response].

Please evaluate the response on a scale of 1 to 5:
1 point: The response is largely irrelevant, incorrect, or fails to address the user’s query. It may be off-topic or provide incorrect information.
2 points: The response is somewhat relevant but lacks accuracy or completeness. It may only partially answer the user’s question or include extraneous information.
3 points: The response is relevant and mostly accurate, but it may lack conciseness or include unnecessary details that don’t contribute to the main point.
4 points: The response is relevant, accurate, and concise, providing a clear answer to the user’s question without unnecessary elaboration.
5 points: The response is exceptionally relevant, accurate, and to the point. It directly addresses the user’s query in a highly effective and efficient manner, providing exactly the information needed.

Below are the transcription of user’s instruction and models’ response:
### [Instruction]: {prompt}
### [Response]: {response}

After evaluating, please output the score only without anything else.
You don’t need to provide any explanations.
"""  # noqa: E501
_QA = """### Question
{prompt}

### Reference answer
{reference}

### Candidate answer
{response}

Is the candidate answer correct based on the question and reference answer?\x20
Please only output a single "Yes" or "No". Do not output anything else."""


def request(row: Response, model: str) -> dict[str, Any]:
    """The body of the chat completion that judges `row`: against its reference if it has one, else from 1 to 5.

    A placeholder within an inserted text is replaced in its turn, as officially.

    Raises:
        BenchmarkError: a field is missing or not a string.
    """
    names = ("prompt", "reference", "response") if "reference" in row.fields else ("prompt", "response")
    text = _QA if "reference" in row.fields else _OPEN
    for name in names:
        text = text.replace(f"{{{name}}}", row.text(name))
    return {
        "model": model,
        "messages": [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}],
        "max_tokens": 1024,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "stop": None,
        "temperature": 0.5,
        "top_p": 0.95,
        "n": 3,
    }


def judged(row: Response, completions: Sequence[str]) -> dict[str, Any]:
    """The row with the judge's answers, as the official evaluator reads it."""
    return {**row.fields, "score": [completion.strip() for completion in completions]}


def parse_mark(text: str) -> float | None:
    """The number that a judge gave: what `float` reads, or the first [[digits]]; None for anything else.

    Digits beyond the largest float are none: officially they end the evaluation too.
    """
    try:
        return float(text)
    except ValueError:
        found = re.search(r"\[\[(\d+)\]\]", text)
        mark = float(found[1]) if found else math.inf
        return mark if math.isfinite(mark) else None
