"""Manifests as lhotse Shar: shards of FLAC in tar files beside shards of cuts, to be read in a stream from anywhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile

from azeros.data.audio import SAMPLING_RATE, load_cut
from azeros.data.manifests import read_cuts
from azeros.data.parallel import map_in_order
from azeros.progress import track
from azeros.work import stage_output

if TYPE_CHECKING:
    from lhotse.cut import Cut

_SHARD_SIZE = 1000  # cuts


def export_shar(manifest: Path, output: Path) -> None:
    """Write the cuts of `manifest` with their sound, 16 kHz mono, into the folder `output`.

    Raises:
        ManifestError: there is no such manifest, or it is damaged.
        UnusableAudio: a recording is gone or damaged since it was prepared.
    """
    from lhotse.shar import SharWriter

    cuts = read_cuts(manifest)
    with (
        stage_output(output) as draft,
        SharWriter(str(draft), fields={"recording": "flac"}, shard_size=_SHARD_SIZE) as writer,
        track(f"shar {output.name}", len(cuts)) as advance,
    ):
        for cut in map_in_order(_hold, cuts):
            writer.write(cut)
            advance(1)


def _hold(cut: Cut) -> Cut:
    """The cut with a recording in memory that is neither longer nor at another rate than it."""
    from lhotse import MonoCut, Recording
    from lhotse.utils import fastcopy

    stream = io.BytesIO()
    soundfile.write(stream, load_cut(cut), SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    recording = Recording.from_bytes(stream.getvalue(), recording_id=cut.id)
    said = [
        fastcopy(supervision, recording_id=cut.id, duration=recording.duration, channel=0)
        for supervision in cut.supervisions
    ]
    return MonoCut(cut.id, 0.0, recording.duration, 0, supervisions=said, recording=recording)
