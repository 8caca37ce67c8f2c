"""Manifests are read back as written, byte for byte reproducible, and say where they are damaged."""

import gzip
import json
from pathlib import Path

import pytest
from lhotse import MonoCut, SupervisionSegment

from azeros.data.manifests import cut_text, open_cuts, read_cuts, unfit, write_cuts
from azeros.errors import ManifestError
from azeros.params import Filter


def make_cut(name: str, text: str | None = "早上好") -> MonoCut:
    supervision = SupervisionSegment(name, name, 0.0, 1.5, text=text, language="zh", custom={"age": 30})
    return MonoCut(name, 0.0, 1.5, channel=0, supervisions=[supervision])


def test_written_cuts_are_read_back(tmp_path: Path) -> None:
    cuts = [make_cut("a"), make_cut("b", None)]
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    read = read_cuts(tmp_path / "cuts.jsonl.gz")
    assert list(read) == list(read) == cuts
    assert len(read) == 2
    assert [cut_text(cut) for cut in read] == ["早上好", ""]


def test_equal_content_is_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [make_cut(f"cut{number}") for number in range(50)]
    write_cuts(cuts, tmp_path / "a.jsonl.gz")
    monkeypatch.setattr("time.time", lambda: 1e9)
    with open_cuts(tmp_path / "b.jsonl.gz") as write:
        for cut in cuts:
            write(cut)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_an_empty_manifest_has_no_cuts(tmp_path: Path) -> None:
    write_cuts([], tmp_path / "cuts.jsonl.gz")
    assert list(read_cuts(tmp_path / "cuts.jsonl.gz")) == []


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_cuts(tmp_path / "cuts.jsonl.gz")


def test_damage_is_located(tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    line = json.dumps(make_cut("a").to_dict()).encode()
    path.write_bytes(gzip.compress(line + b"\n{]\n"))
    with pytest.raises(ManifestError, match="line 2 is not a cut"):
        list(read_cuts(path))
    path.write_bytes(gzip.compress(b'{"id": "a"}\n'))
    with pytest.raises(ManifestError, match="line 1 is not a cut"):
        list(read_cuts(path))
    path.write_bytes(gzip.compress(line + b"\n")[:-9])
    with pytest.raises(ManifestError, match="unreadable"):
        list(read_cuts(path))


def test_one_utterance_a_cut() -> None:
    with pytest.raises(ManifestError, match="cut a: 0 supervisions"):
        cut_text(MonoCut("a", 0.0, 1.0, channel=0))


def test_filters_equal_the_reference(golden: Path) -> None:
    settings = Filter(min_duration_s=1.0, max_duration_s=30.0, max_chars_per_s=30.0)
    for row in json.loads((golden / "sift" / "sift.json").read_text())["filters"]:
        text = "a" * row["text_len"]
        assert (unfit(row["duration"], text, settings, strict=True) is None) == row["keep_data_generation"]
        assert (unfit(row["duration"], text, settings) is None) == row["keep_training"]
