"""Recipe `wenetspeech`: WenetSpeech, Mandarin from videos and podcasts (spec/CORPORA.md section 12).

Segments of the long recordings in audio/, or, where there is a folder wavs/, recordings that are already cut.
"""

from __future__ import annotations

from pathlib import Path

from azeros.data.recipes import Reject, Row, Source, Utterance, rows_of
from azeros.data.recipes.layout import find, find_optional, missing_audio
from azeros.data.recipes.segments import Segment, read_segments
from azeros.params import WenetSpeechCorpus

_SPLITS = {"DEV": "validation", "TEST_NET": "test", "TEST_MEETING": "test"}
# What the corpus's own tools take out of the text.
_DROPPED = str.maketrans("", "", "\u3000\u00a0Ω")


def prepare(corpus: WenetSpeechCorpus, seed: int) -> Source:
    """The segments of the subsets that are asked for, as WenetSpeech.json has them.

    Raises:
        CorpusError: WenetSpeech.json is missing; while iterating: it is damaged.
    """
    path = find(corpus.path, "WenetSpeech.json")
    cut = find_optional(corpus.path, "wavs")

    def read(segment: Segment | Reject) -> Row | None:
        if isinstance(segment, Reject):
            return segment
        asked = [name for name in corpus.subsets if name in segment.subsets]
        return _utterance(segment, asked[0], path.parent, cut) if asked else None

    return Source(None, rows_of(read_segments(path), read))


def _utterance(segment: Segment, subset: str, root: Path, cut: Path | None) -> Utterance:
    segment.require("sid", "begin_time", "end_time", "text")
    if cut:
        aid = str(segment.recording.get("aid"))
        audio = next(
            iter(sorted(cut.glob(f"*/{aid}/{segment.id}.wav"))), cut / "train_l" / aid / f"{segment.id}.wav"
        )
    else:
        audio = root / str(segment.recording["path"])
    if not audio.is_file():
        raise missing_audio(segment.id, audio)
    return Utterance(
        id=segment.id,
        split=_SPLITS.get(subset, "train"),
        audio=audio,
        text=str(segment.fields["text"]).translate(_DROPPED).strip(),
        language="zh",
        start_s=0.0 if cut else segment.start_s,
        duration_s=None if cut else segment.duration_s,
        custom={"confidence": segment.fields["confidence"]} if "confidence" in segment.fields else {},
    )
