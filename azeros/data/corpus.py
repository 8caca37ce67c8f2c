"""From what a recipe finds to checked lhotse manifests: each row decoded, counted, written or rejected by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import soundfile

from azeros.data.audio import SAMPLING_RATE, AudioInfo, Part, UnusableAudio, probe_audio
from azeros.data.catalog import read_catalog
from azeros.data.journal import Finding, Journal
from azeros.data.labels import age_group_of
from azeros.data.manifests import cuts_path, open_cuts
from azeros.data.parallel import map_in_order
from azeros.data.recipes import Reject, Row, Utterance, open_corpus
from azeros.data.report import Report
from azeros.data.seen import Seen
from azeros.errors import CorpusError
from azeros.params import Corpus, Split
from azeros.progress import track
from azeros.work import stage_output, work_dir, write_json

if TYPE_CHECKING:
    from lhotse import Recording
    from lhotse.cut import Cut

SPLITS: tuple[str, ...] = get_args(Split)


def prepare_corpus(name: str, corpus: Corpus, seed: int, output: Path, max_rejected_share: float) -> Report:
    """Make the manifests of `corpus` in the folder `output`, which appears when it is complete.

    It gets cuts_{train,validation,test}.jsonl.gz; audio/ with what the recipe synthesised; report.json and
    report.md with rows in, rows out, rejects by reason and hours; rejects.jsonl naming each rejected row.
    A killed run goes on after the recordings that it has decoded.

    Args:
        name: what progress and errors call the corpus.
        corpus: its recipe, source and options.
        seed: of what a recipe draws.
        output: folder to make.
        max_rejected_share: of the rows; more rejects, not counting those that were to be expected, are an error.

    Raises:
        CorpusError: the corpus is missing or badly laid out, or too large a share of its rows is unusable.
    """
    source = open_corpus(corpus, seed)
    report = Report(name, read_catalog().corpora[corpus.recipe].paper_hours)
    work = work_dir("prepare", {"corpus": corpus, "seed": seed})
    with stage_output(output) as draft, Journal(work / "decoded.jsonl") as journal, Seen() as seen:
        with (
            track(f"prepare {name}", source.num_rows) as advance,
            _writer(draft, output, report) as write,
            # Closed before the draft goes: threads may still write into it.
            closing(_findings(source.rows, draft, journal, seen)) as findings,
        ):
            for row, finding in findings:
                write(row, finding)
                advance(1)
        _check_share(report, draft, work, max_rejected_share)
        write_json(draft / "report.json", report.to_dict())
        (draft / "report.md").write_text(report.to_markdown(), encoding="utf-8")
    return report


def _findings(
    rows: Iterable[Row], draft: Path, journal: Journal, seen: Seen
) -> Generator[tuple[Row, Finding]]:
    """Each row with what its recording holds, or why the row is of no use; decoded unless the journal knows."""

    def recalled() -> Iterator[tuple[Row, Finding | None]]:
        for row in rows:
            finding: Finding | None = row if isinstance(row, Reject) else _refuse(row, seen)
            if finding is None and isinstance(row, Utterance) and isinstance(row.audio, Path | Part):
                finding = journal.recall(row)
            yield row, finding

    def decoded(item: tuple[Row, Finding | None]) -> tuple[Row, Finding, bool]:
        row, finding = item
        if finding is None and isinstance(row, Utterance):
            return row, _probe(row, draft), isinstance(row.audio, Path | Part)
        assert finding is not None
        return row, finding, False

    for row, finding, is_new in map_in_order(decoded, recalled()):
        if is_new and isinstance(row, Utterance):
            journal.note(row, finding)
        yield row, finding


def _refuse(row: Utterance, seen: Seen) -> Reject | None:
    """Why a row is of no use whatever its recording holds."""
    place = row.audio if isinstance(row.audio, Path | Part) else row.id
    words = [row.id, place, row.text, row.language, row.speaker, row.age, dict(row.custom)]
    try:
        json.dumps(words, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        detail = f"{place}: {error.object[error.start : error.end]!r} is no character; write the row and the name in UTF-8"
        return Reject(row.id, "not UTF-8", detail)
    if seen.first(row.id) is not None:
        return Reject(
            row.id, "duplicate id", f"{place}: an earlier row has the same id; each recording needs one row"
        )
    if row.split not in SPLITS:
        return Reject(row.id, "unknown split", f"split is {row.split!r}, not one of {', '.join(SPLITS)}")
    if row.text is not None and not row.text.strip():
        return Reject(row.id, "no text", f"{place}: the transcript is empty; write what is said")
    return None


@contextmanager
def _writer(draft: Path, output: Path, report: Report) -> Iterator[Callable[[Row, Finding], None]]:
    """Yield a function that appends a checked row to its split's manifest or to the rejects."""
    with ExitStack() as stack:
        cuts = {split: stack.enter_context(open_cuts(cuts_path(draft, split))) for split in SPLITS}
        rejects = stack.enter_context(
            (draft / "rejects.jsonl").open("w", encoding="utf-8", errors="backslashreplace")
        )

        def write(row: Row, checked: Finding) -> None:
            if isinstance(row, Utterance) and isinstance(checked, AudioInfo):
                cut = _cut(row, checked, output)
                cuts[row.split](cut)
                report.count(cut, row.split)
            elif isinstance(checked, Reject):
                report.reject(checked)
                rejects.write(json.dumps(asdict(checked), ensure_ascii=False) + "\n")

        yield write


def _probe(row: Utterance, draft: Path) -> Finding:
    """What the recording holds, or why it is of no use. Samples are stored first."""
    try:
        return probe_audio(_store(row, draft), row.start_s, row.duration_s)
    except UnusableAudio as error:
        if isinstance(row.audio, Path | Part):
            return Reject(row.id, f"audio {error.reason}", str(error))
        (draft / "audio" / f"{row.id}.flac").unlink()
        return Reject(
            row.id, f"audio {error.reason}", f"made by the recipe: {str(error).rpartition(': ')[2]}"
        )


def _store(row: Utterance, folder: Path) -> Path | Part:
    """The file with the row's sound, written first if the recipe made samples."""
    if isinstance(row.audio, Path | Part):
        return row.audio
    path = folder / "audio" / f"{row.id}.flac"
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.asarray(row.audio, dtype=np.float32), SAMPLING_RATE, subtype="PCM_16")
    return path


def _cut(row: Utterance, audio: AudioInfo, output: Path) -> Cut:
    """One utterance as a cut at 16 kHz, of the whole recording or of a part of it."""
    from lhotse import MonoCut, MultiCut, SupervisionSegment

    recording = _recording(row, audio, output)
    channels = recording.channel_ids
    kind, channel = (MonoCut, 0) if len(channels) == 1 else (MultiCut, channels)
    duration_s = recording.duration - row.start_s
    if row.duration_s is not None:
        duration_s = min(row.duration_s, duration_s)
    questions = [asdict(question) for question in row.questions] or None
    custom = {
        "age": row.age,
        "age_group": row.age_group or age_group_of(row.age),
        "emotion": row.emotion,
        "questions": questions,
        **row.custom,
    }
    supervision = SupervisionSegment(
        id=row.id,
        recording_id=recording.id,
        start=0.0,
        duration=duration_s,
        channel=channel,
        text=row.text,
        language=row.language,
        speaker=row.speaker,
        gender=row.gender,
        custom={key: value for key, value in custom.items() if value is not None} or None,
    )
    return kind(row.id, row.start_s, duration_s, channel, supervisions=[supervision], recording=recording)


def _recording(row: Utterance, audio: AudioInfo, output: Path) -> Recording:
    """The recording, which lhotse too will resample when it loads it."""
    from lhotse import AudioSource, Recording

    place = row.audio if isinstance(row.audio, Path | Part) else output / "audio" / f"{row.id}.flac"
    channels = list(range(audio.num_channels))
    kind = "url" if isinstance(place, Part) else "file"
    recording = Recording(
        id=place.stem if isinstance(place, Path) and row.duration_s is not None else row.id,
        sources=[AudioSource(type=kind, channels=channels, source=_portable(str(place)))],
        sampling_rate=audio.sampling_rate,
        num_samples=audio.num_samples,
        duration=audio.num_samples / audio.sampling_rate,
        channel_ids=channels,
    )
    return recording if audio.sampling_rate == SAMPLING_RATE else recording.resample(SAMPLING_RATE)


def _portable(place: str) -> str:
    """A path counted from the working directory where that is possible, so that the repository may move; or the URL."""
    if "://" in place:
        return place
    absolute, root = Path(place).absolute(), Path.cwd()
    return (absolute.relative_to(root) if absolute.is_relative_to(root) else absolute).as_posix()


def _check_share(report: Report, draft: Path, work: Path, allowed: float) -> None:
    if report.rows_out and report.num_faults <= allowed * report.rows_in:
        return
    if not report.rows_in:
        raise CorpusError(f"corpus {report.name}: no rows in it; add recordings to its metadata")
    # The draft goes, so the list of what to mend is kept beside it.
    kept = work / "rejects.jsonl"
    kept.write_bytes((draft / "rejects.jsonl").read_bytes())
    with kept.open(encoding="utf-8") as stream:
        first = min(map(json.loads, stream), key=itemgetter("expected"))["detail"]  # a fault if there is one
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejected.most_common())
    allowance = (
        f"{report.num_faults} of them for faults, more than prepare.max_rejected_share {allowed:g} allows"
        if report.rows_out
        else "none is left"
    )
    raise CorpusError(
        f"corpus {report.name}: {report.rejected.total()} of {report.rows_in} rows rejected ({reasons}), "
        f"{allowance}; first: {first}; all are in {kept}"
    )
