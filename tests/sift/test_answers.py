"""Each distinct prompt is asked once; a cut-off run goes on to the same answers and the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from azeros.model import processing
from azeros.sift.answers import TRUNCATED, Answer, Backend, Finished, answer_all
from azeros.sift.local import LocalLLM

PROMPTS = [f"<|im_start|>user\n{'x' * (number % 7)}{number}<|im_end|>\n" for number in range(25)]


def texts(llm: Backend, store: Path) -> list[str]:
    return [answer.text for answer in answer_all(llm, PROMPTS, lambda num: None, store)]


class Counted:
    """A backend, and the numbers of the batches that it was asked."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.identity, self.batches = backend, backend.identity, backend.batches
        self.asked: list[int] = []

    def answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
        self.asked += batches
        self.backend.answer(batches, finished)


def test_a_cut_off_run_goes_on(llm: LocalLLM, tmp_path: Path) -> None:
    whole = texts(llm, tmp_path / "whole.jsonl")
    content = (tmp_path / "whole.jsonl").read_bytes()
    for num_bytes in (
        0,
        10,
        len(content) // 2,
        content.rfind(b"\n", 0, -1) + 1,
        len(content) - 1,
        len(content),
    ):
        (tmp_path / "cut.jsonl").write_bytes(content[:num_bytes])
        counted = Counted(llm)
        assert texts(counted, tmp_path / "cut.jsonl") == whole
        assert counted.asked == list(range(content[:num_bytes].count(b"\n"), 7))
        assert (tmp_path / "cut.jsonl").read_bytes() == content


class Echo:
    """Answers in an order of its own."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    identity = {"kind": "echo"}  # noqa: RUF012

    def batches(self, prompts: Sequence[str]) -> list[list[int]]:
        return [[index] for index in range(len(prompts))]

    def answer(self, batches: Mapping[int, Sequence[str]], finished: Finished) -> None:
        for number, (prompt,) in reversed(list(batches.items())):
            self.asked.append(prompt)
            finished(number, [Answer.of(prompt.upper(), 1, "stop")])


def test_equal_prompts_are_asked_once_and_all_are_answered(tmp_path: Path) -> None:
    echo = Echo()
    done: list[int] = []
    found = answer_all(echo, ["a", "b", "a", "c", "a"], done.append, tmp_path / "store.jsonl")
    assert [answer.text for answer in found] == ["A", "B", "A", "C", "A"]
    assert (sorted(echo.asked), sum(done)) == (["a", "b", "c"], 5)
    again = Echo()
    assert answer_all(again, ["a", "b", "a", "c", "a"], done.append, tmp_path / "store.jsonl") == found
    assert (again.asked, sum(done)) == ([], 10)


def test_training_knows_the_mark_of_a_cut_off_answer() -> None:
    assert processing.TRUNCATED == TRUNCATED
    assert Answer.of("so", 4, "length").text == Answer.of("so", 4, "other_end").text == f"so{TRUNCATED}"
