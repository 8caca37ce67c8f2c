"""The report counts utterances, seconds and rejects, and says the same in JSON and in tables."""

from lhotse import MonoCut, SupervisionSegment

from azeros.data.recipes import Reject
from azeros.data.report import Report


def cut(seconds: float, language: str, gender: str | None, emotion: str | None = None) -> MonoCut:
    custom = {"emotion": emotion} if emotion else None
    said = SupervisionSegment("x", "x", 0.0, seconds, language=language, gender=gender, custom=custom)
    return MonoCut("x", 0.0, seconds, channel=0, supervisions=[said])


def filled() -> Report:
    report = Report("toy", {"en": 9.0, "zh": 1.0})
    report.count(cut(1800, "en", "female", "sad"), "train")
    report.count(cut(0.5, "en", None), "train")
    report.count(cut(1800, "fr", "male"), "test")
    report.reject(Reject("a", "no text", "a: empty"))
    report.reject(Reject("b", "no speech", "b: noise", expected=True))
    return report


def test_counts() -> None:
    counted = filled().to_dict()
    assert (counted["rows_in"], counted["rows_out"], counted["rejected"]) == (
        5,
        3,
        {"no text": 1, "no speech": 1},
    )
    assert counted["hours"] == 1.000139
    assert counted["by"]["split"] == {
        "train": {"utterances": 2, "hours": 0.500139},
        "test": {"utterances": 1, "hours": 0.5},
    }
    assert counted["by"]["gender"]["unknown"] == {"utterances": 1, "hours": 0.000139}
    assert counted["by"]["emotion"].keys() == {"sad", "unknown"}
    durations = counted["utterances_by_duration"]
    assert (durations["up to 1"], durations["over 30"], sum(durations.values())) == (1, 2, 3)
    assert filled().num_faults == 1


def test_tables() -> None:
    page = filled().to_markdown()
    assert "3 of 5 rows, 1.00 h." in page
    assert "The paper trains on 10 h of it." in page
    assert "| en | 2 | 0.50 | 9 |" in page
    assert "| fr | 1 | 0.50 |  |" in page
    assert "| no text | 1 |" in page
    assert "hours in the paper" not in Report("own", {}).to_markdown()
