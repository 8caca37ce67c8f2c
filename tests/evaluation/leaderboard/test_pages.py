"""`azeros leaderboard` on files that `azeros score` wrote, its page parsed by a parser of its own."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from azeros.evaluation.leaderboard.comparability import compare
from azeros.evaluation.leaderboard.pages import write_pages
from azeros.evaluation.leaderboard.results import Terms, read_results
from tests.evaluation.rows import write_rows
from tests.small import complaint, run


class Page(HTMLParser):
    """The cells of each row of each table, and every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.bold: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data + " "
        if "b" in self._open:
            self.bold.append(f"{self.rows[-1][0].strip()}: {data}")


def score(folder: Path, subset: str, rows: list[dict[str, Any]], benchmark: str = "voicebench") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = write_rows(folder / f"{subset}.jsonl", rows)
    result = run("score", benchmark, subset, str(path))
    assert result.exit_code == 0, result.stderr
    (folder / f"{subset}.score.json").write_text(result.stdout)


def note_run(folder: Path, subset: str, modality: str, **identity: Any) -> None:
    record = {
        "benchmark": "voicebench", "subset": subset, "modality": modality, "complete": False, "data_sha256": "d1",
        "identity": {"decoding": "greedy", "max_new_tokens": 200} | identity,
    }  # fmt: skip
    (folder / f"{subset}.run.json").write_text(json.dumps(record))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A system that hears and one that reads, with two of the nine columns, one of them judged."""
    folder = tmp_path / "results"
    right = [{"prompt": f"{i}", "reference": "B", "response": "The answer is B."} for i in range(4)]
    score(folder / "a<b>", "openbookqa", [*right[:3], {"prompt": "x", "reference": "B", "response": "?"}])
    note_run(folder / "a<b>", "openbookqa", "audio")
    score(folder / "reads", "openbookqa", right)
    note_run(folder / "reads", "openbookqa", "text", max_new_tokens=100)
    score(folder / "reads", "commoneval", [{"prompt": "p", "response": "r", "score": ["4", "5", "4"]}])
    judged = {
        "judged": (folder / "reads/commoneval.jsonl").as_posix(),
        "model": "gpt-4o-mini",
        "served_models": ["m-1"],
    }
    (folder / "reads/judge.json").write_text(json.dumps(judged))
    return folder


def test_our_rows_stand_beside_the_published_ones(results: Path, tmp_path: Path) -> None:
    assert run("leaderboard", str(results), str(tmp_path / "reports")).exit_code == 0
    page = Page((tmp_path / "reports/leaderboard.html").read_text())
    columns = page.rows[0]
    assert len(page.rows) == 1 + 2 + 56 + 1 + 18
    assert all(len(row) == len(columns) for row in page.rows[:59])
    ours, reads = ({c.strip(): v for c, v in zip(columns, row, strict=True)} for row in page.rows[1:3])
    assert (ours["System"], ours["Source"], ours["CommonEval"]) == (
        "a<b> ",
        "ours, not the whole data ",
        "absent ",
    )
    assert ours["OBQA"].startswith("75.00 [")  # the guess, drawn with the seed, is wrong
    assert reads["OBQA"] == "100.00 [100.00, 100.00] "
    assert reads["CommonEval"] == "4.33 [4.33, 4.33] "
    assert ours["Overall"] == reads["Overall"] == "absent "
    gpt4o = next(row for row in page.rows if row[0] == "GPT-4o " and "azeros" in row[1])
    assert gpt4o[2:5] == ["4.78 ", "4.49 ", "4.58 "]
    assert not [cell for cell in page.bold if cell.startswith("reads: ")]  # of four rows, not of 455
    assert "AZeroS (ours): 77.25" not in page.bold  # T7 and T4 have more
    assert "Whisper+GPT-4o: 87.80" in page.bold


def test_the_page_needs_nothing_from_elsewhere(results: Path, tmp_path: Path) -> None:
    run("leaderboard", str(results), str(tmp_path))
    page = Page((tmp_path / "leaderboard.html").read_text())
    assert not [
        tag for tag, attributes in page.tags if {"src", "href"} & attributes.keys() or tag == "script"
    ]


def test_absent_is_never_zero_and_compared_rows_say_how(results: Path, tmp_path: Path) -> None:
    run("leaderboard", str(results), str(tmp_path))
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| 0.00" not in text
    assert (
        "- a<b> and reads: judge unknown, data same, decoding same, budget differs (200 tokens / 100 tokens)"
        in text
    )
    assert (
        "- reads and published rows of leaderboard: judge same, data differs, decoding unknown, budget differs"
        in text
    )
    assert "judge differs (gpt-4o-mini (m-1) / gpt-4o-2025-01-01-preview)" in text
    assert "- a<b> of reads: OBQA " in text


def test_columns_of_foundation_are_its_parts(tmp_path: Path) -> None:
    item = {"choice_a": "x", "choice_b": "y", "answer_gt": "x", "dataset_name": "d"}
    tasks = ["Speaker_Age_Prediction"] * 2 + ["Spoken_Language_Identification"]
    rows = [{**item, "task_name": task, "response": "A.", "uniq_id": i} for i, task in enumerate(tasks)]
    rows[1]["response"] = "nobody knows it"
    score(tmp_path / "s", "foundation", rows, "airbench")
    (row,) = read_results(tmp_path)
    assert (row.cells["age"].official, row.cells["age"].strict) == (100.0, 50.0)
    assert row.cells["lid"].official == 100.0
    assert row.cells["avg"].official is None


def test_what_may_not_be_the_whole_set_is_not_the_best(tmp_path: Path) -> None:
    twice = [{"prompt": f"p{i % 100}", "response": f"r{i}", "score": ["5"]} for i in range(200)]
    score(tmp_path / "twice", "commoneval", twice)
    once = [{"prompt": f"p{max(i, 1)}", "response": "r", "score": ["5"]} for i in range(200)]
    score(tmp_path / "once", "commoneval", once)
    note_run(tmp_path / "once", "commoneval", "audio")
    record = json.loads((tmp_path / "once/commoneval.run.json").read_text()) | {
        "complete": True,
        "repeated": 1,
    }
    (tmp_path / "once/commoneval.run.json").write_text(json.dumps(record))
    chat = [{"task_name": "speech_QA", "gpt-score": "1 10", "uniq_id": 0}]
    score(tmp_path / "once", "chat", chat, "airbench")
    rows = {(row.system, row.benchmark): row for row in read_results(tmp_path)}
    assert rows["twice", "voicebench"].cells["commoneval"].is_complete is None
    assert "commoneval: 100 of its 200 rows ask" in rows["twice", "voicebench"].left_out[0]
    assert rows["once", "voicebench"].cells["commoneval"].is_complete is True
    write_pages(list(rows.values()), tmp_path / "pages")
    bold = Page((tmp_path / "pages/leaderboard.html").read_text()).bold
    assert [cell for cell in bold if cell.startswith(("once", "twice"))] == ["once: 5.00"]
    record["repeated"] = 0
    (tmp_path / "once/commoneval.run.json").write_text(json.dumps(record))
    row = next(row for row in read_results(tmp_path) if (row.system, row.benchmark) == ("once", "voicebench"))
    assert row.cells["commoneval"].is_complete is False


def test_a_set_without_a_column_is_named(tmp_path: Path) -> None:
    score(tmp_path / "s", "alpacaeval", [{"prompt": "p", "response": "r", "score": ["5"]}])
    write_pages(read_results(tmp_path), tmp_path / "pages")
    text = (tmp_path / "pages/leaderboard.md").read_text()
    assert "- s, alpacaeval: the table has no column for it; it has those of alpacaeval_full, " in text


def test_the_interval_of_a_total_is_that_of_its_columns_resampled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shares = {"bbh": 0.3, "advbench": 0.95, "ifeval": 0.5, "openbookqa": 0.7, "mmsu": 0.6, "sd-qa": 0.4}
    marks = dict.fromkeys(("alpacaeval_full", "commoneval", "wildvoice"), 0.8)
    total = np.zeros(4000)
    (tmp_path / "s").mkdir()
    for subset, share in {**shares, **marks}.items():
        drawn = rng.binomial(100, share, 4000)
        factor, scale = (20, 0.05) if subset in marks else (1, 1)
        total += factor * scale * drawn
        interval = [float(bound) * scale for bound in np.percentile(drawn, (2.5, 97.5))]
        figures = {"official": 100 * share * scale, "strict": None, "interval": interval}
        record = {"benchmark": "voicebench", "subset": subset, "file": "f", "n": 1, "num_rows_of_set": 1}
        (tmp_path / "s" / f"{subset}.json").write_text(json.dumps(figures | record))
    (row,) = read_results(tmp_path)
    assert row.cells["overall"].interval == pytest.approx(np.percentile(total / 9, (2.5, 97.5)), abs=0.25)


def test_verdicts() -> None:
    one, other = Terms("g", "greedy", "1", {"bbh": "x"}, True), Terms("h", None, "1", {"bbh": "x"}, True)
    assert compare(one, other) == {
        "judge": "differs",
        "data": "same",
        "decoding": "unknown",
        "budget": "same",
    }
    assert compare(one, Terms(data={"bbh": "y"}))["data"] == "differs"
    assert compare(one, Terms(is_complete=True))["data"] == "unknown"


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("g", "g (m-1)", "same"),
        ("g (m-1)", "g", "same"),
        ("g (m-1)", "g (m-2)", "differs"),
        ("g", "h (m-1)", "differs"),
    ],
)
def test_a_judge_goes_by_its_label_where_a_row_says_no_more(one: str, other: str, verdict: str) -> None:
    assert compare(Terms(one), Terms(other))["judge"] == verdict


def test_what_cannot_be_shown_is_named(tmp_path: Path, results: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "nothing scored in it" in complaint(run("leaderboard", str(empty), str(tmp_path)).stderr)
    (results / "reads/again.json").write_text((results / "reads/openbookqa.score.json").read_text())
    assert "reads has another file with obqa" in complaint(
        run("leaderboard", str(results), str(tmp_path)).stderr
    )
    (results / "reads/again.json").write_text("{")
    assert "again.json: not JSON" in complaint(run("leaderboard", str(results), str(tmp_path)).stderr)
