"""From a file of responses to the judged file that the official scorers read."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azeros.errors import BenchmarkError
from azeros.evaluation.airbench import chat
from azeros.evaluation.judging.judge import Question, ask_judge
from azeros.evaluation.judging.ledger import open_ledger
from azeros.evaluation.responses import Benchmark, Response, read_responses, write_responses
from azeros.evaluation.voicebench import judge

if TYPE_CHECKING:
    from azeros.params import Judge

# The official script asks about a random half of AIR-Bench Chat at another temperature; here the row decides.
_HOT_SHARE, _HOT_TEMPERATURE = 0.5, 2.0


@dataclass(frozen=True)
class _Protocol:
    question: Callable[[Response], Question]
    judged: Callable[[Response, Sequence[str]], dict[str, Any]]


def judge_file(
    benchmark: Benchmark,
    path: Path,
    output: Path,
    ledger_path: Path,
    settings: Judge,
    exchanged: bool = False,
) -> dict[str, Any]:
    """Write the rows of `path` with their judgements to `output`, which appears when all are judged.

    A row whose response is null is not asked about; it and a row that the judge refuses get no judgement, and are
    counted.

    Args:
        benchmark: voicebench, or airbench for Chat.
        path: the responses.
        output: the judged rows in the official layout.
        ledger_path: the ledger of judge calls.
        settings: of the judge.
        exchanged: for Chat, the model's answer comes first; the name of `output` must say so with "cir".

    Raises:
        BenchmarkError: a file or a row is not what it should be.
        EndpointError: the endpoint fails or refuses every row, or the budget is spent.
    """
    if benchmark == "airbench" and exchanged != (chat.pass_of(output.name) == "cir"):
        raise BenchmarkError(
            f"{output}: its name must hold 'cir' if the answers are exchanged, and else must not, unless 'normal'"
            " follows: scorers go by it"
        )
    rows = read_responses(path)
    protocol = _voicebench(settings) if benchmark == "voicebench" else _airbench(settings, exchanged)
    answered = [row for row in rows if row.fields.get("response", "") is not None]
    with open_ledger(ledger_path) as ledger:
        verdicts = ask_judge([protocol.question(row) for row in answered], settings, ledger)
    answers = {row.line: given for row, given in zip(answered, verdicts.answers, strict=True)}
    write_responses(output, (protocol.judged(row, answers.get(row.line, [])) for row in rows))
    return {
        "judged": output.as_posix(),
        "n": len(rows),
        "model": getattr(settings.models, benchmark),
        "served_models": verdicts.served_models,
        "calls": verdicts.num_calls,
        "tokens": verdicts.num_tokens,
        "unanswered": len(rows) - len(answered),
        "unreadable": verdicts.num_unreadable,
        "refused": [f"{path} line {answered[i].line}: {why}" for i, why in sorted(verdicts.refused.items())],
    }


def _voicebench(settings: Judge) -> _Protocol:
    def question(row: Response) -> Question:
        body = judge.request(row, settings.models.voicebench)
        # Officially a vote on a reference stands as it comes; only a mark that cannot be read ends the scoring.
        return Question(body, (lambda _: True) if "reference" in row.fields else _is_mark)

    return _Protocol(question, judge.judged)


def _is_mark(answer: str) -> bool:
    return judge.parse_mark(answer.strip()) is not None


def _airbench(settings: Judge, exchanged: bool) -> _Protocol:
    def question(row: Response) -> Question:
        body = chat.judge_request(row, settings.models.airbench, exchanged)
        if random.Random(body["messages"][0]["content"]).random() < _HOT_SHARE:
            body["temperature"] = _HOT_TEMPERATURE
        return Question(body, lambda answer: chat.parse_marks(answer) is not None)

    return _Protocol(question, chat.judged)
