"""Stage `prepare`: one corpus, from its own layout to checked lhotse manifests."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import soundfile

from azeros.data.audio import SAMPLING_RATE, AudioInfo, UnusableAudio, probe_audio
from azeros.data.manifests import age_group_of, cuts_path, open_cuts
from azeros.data.recipes import Reject, Row, Utterance, open_corpus
from azeros.errors import CorpusError, StageError
from azeros.params import Params, Split
from azeros.progress import track
from azeros.tracking import stage_run
from azeros.work import stage_output, work_dir, write_json

if TYPE_CHECKING:
    from lhotse import MonoCut

logger = logging.getLogger(__name__)

SPLITS: tuple[str, ...] = get_args(Split)
_COUNTED_BY = ("split", "language", "gender", "age_group", "emotion")
_SECONDS_PER_HOUR = 3600


def run(params: Params, corpus: str, output: Path) -> None:
    """Make the manifests of `corpus`, a name in params.corpora, in the folder `output`.

    It gets cuts_{train,validation,test}.jsonl.gz; audio/ with what the recipe synthesised; report.json with
    rows in, rows out, rejects by reason and hours; rejects.jsonl naming each rejected row. A killed run
    starts over: nothing here takes longer than making or decoding the sound once.

    Raises:
        StageError: no such corpus in params.
        CorpusError: the corpus is missing or badly laid out, or too large a share of its rows is unusable.
    """
    if corpus not in params.corpora:
        raise StageError(f"params.yaml: no '{corpus}' in corpora; there are: {', '.join(params.corpora)}")
    settings = {"corpus": params.corpora[corpus], "seed": params.seed, "prepare": params.prepare}
    source = open_corpus(params.corpora[corpus], params.seed)
    with stage_run(f"prepare@{corpus}", settings) as tracked, stage_output(output) as draft:
        report = _Report()
        with (
            track(f"prepare {corpus}", source.num_rows) as advance,
            _writer(draft, output, report) as write,
        ):
            for row in source.rows:
                write(row)
                advance(1)
        _check_share(report, corpus, draft, params.prepare.max_rejected_share)
        write_json(draft / "report.json", report.to_dict())
        tracked.set_summary({"rows_in": report.rows_in, "rows_out": report.rows_out, "hours": report.hours})
        tracked.log_artifact(draft / "report.json")
    logger.info("%s: %s", output, report.summary())


@dataclass
class _Report:
    """What came in, what went out, and why the rest did not."""

    rows_in: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    utterances: dict[str, Counter[str]] = field(
        default_factory=lambda: {key: Counter() for key in _COUNTED_BY}
    )
    seconds: dict[str, dict[str, float]] = field(default_factory=lambda: {key: {} for key in _COUNTED_BY})

    @property
    def rows_out(self) -> int:
        return self.utterances["split"].total()

    @property
    def hours(self) -> float:
        return round(sum(self.seconds["split"].values()) / _SECONDS_PER_HOUR, 6)

    def count(self, utterance: Utterance, duration_s: float) -> None:
        labels = {key: getattr(utterance, key) for key in _COUNTED_BY}
        labels["age_group"] = labels["age_group"] or age_group_of(utterance.age)
        for key, label in labels.items():
            label = label or "unknown"
            self.utterances[key][label] += 1
            self.seconds[key][label] = self.seconds[key].get(label, 0.0) + duration_s

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rejected": dict(self.rejected),
            "hours": self.hours,
            "by": {
                key: {
                    label: {
                        "utterances": count,
                        "hours": round(self.seconds[key][label] / _SECONDS_PER_HOUR, 6),
                    }
                    for label, count in counts.items()
                }
                for key, counts in self.utterances.items()
            },
        }

    def summary(self) -> str:
        parts = [f"{self.utterances['split'][split]} {split}" for split in SPLITS]
        rejects = "".join(f"; {count} rejected: {reason}" for reason, count in self.rejected.most_common())
        return f"{self.rows_out} of {self.rows_in} rows, {self.hours:.2f} h ({', '.join(parts)}){rejects}"


@contextmanager
def _writer(draft: Path, output: Path, report: _Report) -> Iterator[Callable[[Row], None]]:
    """Yield a function that checks one row and appends it to its split's manifest or to the rejects."""
    seen: set[str] = set()
    with ExitStack() as stack:
        cuts = {split: stack.enter_context(open_cuts(cuts_path(draft, split))) for split in SPLITS}
        rejects = stack.enter_context((draft / "rejects.jsonl").open("w", encoding="utf-8"))

        def write(row: Row) -> None:
            report.rows_in += 1
            checked = _check(row, draft, seen) if isinstance(row, Utterance) else row
            if isinstance(row, Utterance) and isinstance(checked, AudioInfo):
                seen.add(row.id)
                cut = _cut(row, checked, draft, output)
                cuts[row.split](cut)
                report.count(row, cut.duration)
            elif isinstance(checked, Reject):
                report.rejected[checked.reason] += 1
                rejects.write(json.dumps(asdict(checked), ensure_ascii=False) + "\n")

        yield write


def _check(row: Utterance, draft: Path, seen: set[str]) -> AudioInfo | Reject:
    """What the recording holds, or why the row is of no use. Samples are stored first."""
    if row.split not in SPLITS:
        return Reject(row.id, "unknown split", f"split is {row.split!r}, not one of {', '.join(SPLITS)}")
    if row.id in seen:
        return Reject(row.id, "duplicate id", "an earlier row has the same id; each recording needs one row")
    if not row.text.strip():
        return Reject(row.id, "no text", "the transcript is empty; write what is said")
    try:
        return probe_audio(_store(row, draft))
    except UnusableAudio as error:
        if isinstance(row.audio, Path):
            return Reject(row.id, f"audio {error.reason}", str(error))
        (draft / "audio" / f"{row.id}.flac").unlink()
        return Reject(
            row.id, f"audio {error.reason}", f"made by the recipe: {str(error).rpartition(': ')[2]}"
        )


def _store(row: Utterance, folder: Path) -> Path:
    """The file with the row's sound, written first if the recipe made samples."""
    if isinstance(row.audio, Path):
        return row.audio
    path = folder / "audio" / f"{row.id}.flac"
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.asarray(row.audio, dtype=np.float32), SAMPLING_RATE, subtype="PCM_16")
    return path


def _cut(row: Utterance, audio: AudioInfo, draft: Path, output: Path) -> MonoCut:
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    path = row.audio if isinstance(row.audio, Path) else output / "audio" / f"{row.id}.flac"
    duration_s = audio.num_samples / audio.sampling_rate
    channels = list(range(audio.num_channels))
    recording = Recording(
        id=row.id,
        sources=[AudioSource(type="file", channels=channels, source=_portable(path))],
        sampling_rate=audio.sampling_rate,
        num_samples=audio.num_samples,
        duration=duration_s,
        channel_ids=channels,
    )
    questions = [asdict(question) for question in row.questions] or None
    custom = {"age": row.age, "age_group": row.age_group, "emotion": row.emotion, "questions": questions}
    supervision = SupervisionSegment(
        id=row.id,
        recording_id=row.id,
        start=0.0,
        duration=duration_s,
        text=row.text,
        language=row.language,
        speaker=row.speaker,
        gender=row.gender,
        custom={key: value for key, value in custom.items() if value is not None} or None,
    )
    return MonoCut(row.id, 0.0, duration_s, channel=0, supervisions=[supervision], recording=recording)


def _portable(path: Path) -> str:
    """Counted from the working directory where that is possible, so that the repository may move."""
    absolute, root = path.absolute(), Path.cwd()
    return (absolute.relative_to(root) if absolute.is_relative_to(root) else absolute).as_posix()


def _check_share(report: _Report, corpus: str, draft: Path, allowed: float) -> None:
    num_rejected = report.rejected.total()
    if report.rows_out and num_rejected <= allowed * report.rows_in:
        return
    if not report.rows_in:
        raise CorpusError(f"corpus {corpus}: no rows in it; add recordings to its metadata")
    # The draft goes, so the list of what to mend is kept beside it.
    kept = work_dir("prepare", corpus) / "rejects.jsonl"
    kept.write_bytes((draft / "rejects.jsonl").read_bytes())
    with kept.open(encoding="utf-8") as stream:
        first = json.loads(stream.readline())["detail"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejected.most_common())
    raise CorpusError(
        f"corpus {corpus}: {num_rejected} of {report.rows_in} rows rejected ({reasons}), more than "
        f"prepare.max_rejected_share {allowed:g} allows; first: {first}; all are in {kept}"
    )
