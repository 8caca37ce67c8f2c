"""A corpus in miniature: recordings made here, laid out as the corpus itself is, prepared by `azeros data prepare`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from lhotse import MonoCut

from azeros.data.corpus import SPLITS
from azeros.data.manifests import cuts_path, read_cuts
from tests.small import run

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 84000\n"


@dataclass(frozen=True)
class Prepared:
    """What came out: cuts by split and id, reasons by the id of the reject."""

    cuts: dict[str, dict[str, MonoCut]]
    rejects: dict[str, str]
    report: dict[str, Any]

    @property
    def train(self) -> dict[str, MonoCut]:
        return self.cuts["train"]


def write_audio(path: Path, seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> Path:
    """A tone whose pitch the path decides, so that no two recordings are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hertz = 200 + sum(path.name.encode()) % 800
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    if path.suffix == ".m4a":
        return write_m4a(path, wave, rate)
    kind = {".opus": {"format": "OGG", "subtype": "OPUS"}}.get(path.suffix, {})
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate, **kind)
    return path


def write_m4a(path: Path, wave: np.ndarray, rate: int) -> Path:
    """AAC in mp4, its index in front of the sound."""
    frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate = rate
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def write_text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path


def prepare(recipe: str, folder: Path, *options: str) -> Prepared:
    """Run `azeros data prepare` on `folder`; each row is in the manifests or in the rejects."""
    output = folder.parent / f"{folder.name}-prepared"
    flags = [word for option in options for word in ("--option", option)]
    result = run("data", "prepare", recipe, str(folder), str(output), *flags)
    assert result.exit_code == 0, result.stderr or result.exception
    cuts = {split: {cut.id: cut for cut in read_cuts(cuts_path(output, split))} for split in SPLITS}
    lines = (output / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    rejects = {line["id"]: line["reason"] for line in map(json.loads, lines)}
    report = json.loads((output / "report.json").read_text())
    assert report["rows_in"] == sum(map(len, cuts.values())) + len(lines)
    assert len(rejects) == len(lines)
    for of_split in cuts.values():
        for cut in of_split.values():
            assert cut.sampling_rate == 16_000
            assert len(cut.supervisions) == 1
    return Prepared(cuts, rejects, report)


def refusal(recipe: str, folder: Path, *options: str) -> str:
    """The one line in which the command says why it makes nothing of `folder`."""
    output = folder.parent / f"{folder.name}-refused"
    flags = [word for option in options for word in ("--option", option)]
    result = run("data", "prepare", recipe, str(folder), str(output), *flags)
    assert result.exit_code == 1
    assert not output.exists()
    return result.stderr


def facts(cut: MonoCut) -> dict[str, Any]:
    """What the cut says about its speech, without what it does not know."""
    said = cut.supervisions[0]
    top = {key: getattr(said, key) for key in ("text", "language", "speaker", "gender")}
    return {key: value for key, value in (top | (said.custom or {})).items() if value is not None}
