"""A prepare that is stopped goes on after what it has decoded, to the same bytes; what changed meanwhile is decoded anew."""

from pathlib import Path

import pytest
import soundfile

from azeros.data import corpus as corpora
from azeros.data.audio import AudioInfo, probe_audio
from azeros.data.corpus import prepare_corpus
from azeros.data.report import Report
from azeros.params import FolderCorpus
from tests.data.recipes.miniature import write_audio
from tests.small import digests

NAMES = [f"{number:03d}" for number in range(40)]


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The working directory of the test has a corpus of 40 recordings; the list gets the names of those decoded."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        write_audio(Path("wavs") / f"{name}.wav", seconds=0.3)
    Path("wavs/039.wav").write_bytes(b"no sound")
    rows = "".join(f"{name}.wav,hello\n" for name in NAMES)
    Path("wavs/metadata.csv").write_text(f"file_name,text\n{rows}")
    names: list[str] = []

    def probe(path: Path, start_s: float, duration_s: float | None) -> AudioInfo:
        names.append(path.stem)
        return probe_audio(path, start_s, duration_s)

    monkeypatch.setattr(corpora, "probe_audio", probe)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    return names


def prepare(output: str) -> None:
    entry = FolderCorpus(recipe="folder", path=Path("wavs"), language="en")
    prepare_corpus("mine", entry, 1, Path(output), max_rejected_share=1.0)


def stop_at(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until so many rows are written."""
    count = Report.count
    num_left = row

    def counted(*arguments: object) -> None:
        nonlocal num_left
        num_left -= 1
        if num_left == 0:
            raise KeyboardInterrupt
        count(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Report, "count", counted)
        with pytest.raises(KeyboardInterrupt):
            prepare("out")
    assert not Path("out").exists()


def test_a_stopped_run_goes_on(decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    prepare("whole")
    assert decoded == NAMES
    stop_at(20, monkeypatch)
    del decoded[:]
    prepare("out")
    assert decoded == NAMES[20:]
    assert digests(Path("out")) == digests(Path("whole"))
    assert not list(Path(".work").rglob("decoded.jsonl"))


def test_what_changed_is_decoded_anew(decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(20, monkeypatch)
    soundfile.write("wavs/010.wav", soundfile.read("wavs/010.wav")[0][:4000], 16_000)
    del decoded[:]
    prepare("out")
    assert decoded == NAMES[10:]


def test_half_a_line_of_a_killed_run(decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(20, monkeypatch)
    (journal,) = Path(".work").rglob("decoded.jsonl")
    journal.write_bytes(journal.read_bytes()[:-5])
    del decoded[:]
    prepare("out")
    assert decoded == NAMES[19:]
