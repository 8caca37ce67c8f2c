"""Recordings of every kind become 16 kHz mono; what cannot be used is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from azeros.data.audio import MIN_SAMPLES, SAMPLING_RATE, UnusableAudio, is_silent, load_audio, probe_audio
from azeros.data.features import fbank
from tests.data.recipes.miniature import LFS_POINTER, write_m4a


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def reason(source: Path | bytes) -> str:
    with pytest.raises(UnusableAudio) as caught:
        load_audio(source)
    message = str(caught.value)
    assert "\n" not in message
    assert isinstance(source, bytes) or str(source) in message
    return caught.value.reason


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus"])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_formats_and_rates(tmp_path: Path, suffix: str, rate: int) -> None:
    path = tmp_path / f"tone.{suffix}"
    kind = {"opus": {"format": "OGG", "subtype": "OPUS"}}.get(suffix, {})
    soundfile.write(path, tone(1.0, rate), rate, **kind)
    wave = load_audio(path)
    assert wave.dtype == np.float32
    assert abs(len(wave) - SAMPLING_RATE) <= SAMPLING_RATE * 0.1
    spectrum = np.abs(np.fft.rfft(wave[:SAMPLING_RATE]))
    assert abs(spectrum.argmax() * SAMPLING_RATE / min(len(wave), SAMPLING_RATE) - 440) <= 2


def test_resampling_keeps_the_wave(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, 8000), 8000, subtype="FLOAT")
    wave = load_audio(tmp_path / "a.wav")
    inner = slice(1000, -1000)
    assert np.abs(wave[inner] - tone(1.0, SAMPLING_RATE)[inner]).max() < 1e-3


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(0.5, SAMPLING_RATE), tone(0.5, SAMPLING_RATE, 1000.0)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), SAMPLING_RATE, subtype="FLOAT")
    assert np.allclose(load_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-6)
    assert probe_audio(tmp_path / "a.wav").num_channels == 2


def test_a_part_is_the_part_of_the_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(2.0, SAMPLING_RATE), SAMPLING_RATE)
    whole = load_audio(tmp_path / "a.flac")
    assert np.array_equal(load_audio(tmp_path / "a.flac", 0.5, 1.0), whole[8000:24000])
    assert np.array_equal(load_audio((tmp_path / "a.flac").read_bytes(), 0.5), whole[8000:])


def test_faults_are_named(tmp_path: Path) -> None:
    assert reason(tmp_path / "gone.wav") == "missing"
    assert reason(tmp_path) == "unreadable"
    assert reason(b"") == "empty"
    assert reason(b"not a recording") == "unreadable"
    (tmp_path / "zero.wav").touch()
    assert reason(tmp_path / "zero.wav") == "empty"
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), SAMPLING_RATE)
    assert reason(tmp_path / "none.wav") == "empty"
    for value in (np.nan, np.inf):
        wave = tone(1.0, SAMPLING_RATE)
        wave[17] = value
        soundfile.write(tmp_path / "bad.wav", wave, SAMPLING_RATE, subtype="FLOAT")
        assert reason(tmp_path / "bad.wav") == "not finite"


def test_the_shortest_recording_has_21_frames(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, SAMPLING_RATE)[:MIN_SAMPLES], SAMPLING_RATE)
    assert len(fbank(load_audio(tmp_path / "a.wav"))) == 21
    soundfile.write(tmp_path / "a.wav", tone(1.0, SAMPLING_RATE)[: MIN_SAMPLES - 1], SAMPLING_RATE)
    assert reason(tmp_path / "a.wav") == "too short"
    assert len(fbank(tone(1.0, SAMPLING_RATE)[: MIN_SAMPLES - 1])) == 20


def test_a_file_that_lost_its_end(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32000)
    soundfile.write(tmp_path / "a.flac", noise, SAMPLING_RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    assert reason(tmp_path / "a.flac") in ("cut short", "unreadable")
    soundfile.write(tmp_path / "b.wav", noise, SAMPLING_RATE)
    with pytest.raises(UnusableAudio, match="cut short"):
        load_audio(tmp_path / "b.wav", 1.5, 1.0)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_aac(tmp_path: Path, rate: int) -> None:
    """What libsndfile does not read, FFmpeg's libraries do: whole, in part, from memory; and damaged."""
    path = write_m4a(tmp_path / "a.m4a", tone(2.0, rate), rate)
    whole = load_audio(path)
    assert len(whole) == pytest.approx(2 * SAMPLING_RATE, abs=0.15 * SAMPLING_RATE)
    assert np.abs(np.fft.rfft(whole[4000:20_000])).argmax() == 440
    assert np.array_equal(load_audio(path.read_bytes()), whole)
    part = load_audio(path, 0.5, 1.0)
    assert len(part) == SAMPLING_RATE
    assert np.abs(part - whole[8000:24_000])[200:-200].max() < 1e-3
    assert probe_audio(path, 0.5, 1.0).sampling_rate == rate
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path) in ("cut short", "unreadable")


def test_silence_and_pointers_are_refused(tmp_path: Path) -> None:
    quiet = np.random.default_rng(0).uniform(-1e-3, 1e-3, 16_000).astype(np.float32)
    for wave, silent in ((quiet, True), (10 * quiet, False)):
        soundfile.write(tmp_path / "a.wav", wave, SAMPLING_RATE, subtype="FLOAT")
        assert is_silent(load_audio(tmp_path / "a.wav"), SAMPLING_RATE) is silent
    soundfile.write(tmp_path / "a.wav", quiet, SAMPLING_RATE, subtype="FLOAT")
    with pytest.raises(UnusableAudio, match="silent"):
        probe_audio(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_text(LFS_POINTER)
    with pytest.raises(UnusableAudio, match="run git lfs pull"):
        load_audio(tmp_path / "b.wav")


def test_real_recordings(shared_data: Path) -> None:
    misc = shared_data / "speech" / "misc"
    assert len(load_audio(misc / "2412-153948-0000.flac")) == 186_560
    assert len(load_audio(misc / "stereo.sph")) == 16_000
    assert abs(len(load_audio(misc / "common_voice_en_651325.mp3")) / SAMPLING_RATE - 2.38) < 0.02
    assert len(load_audio(misc / "big_buck_bunny_small.mp4")) == 84_992
    for name in ("stereo.wav", "stereo.mp3", "stereo.opus"):
        assert len(load_audio(misc / name)) == pytest.approx(16_000, abs=0.05 * SAMPLING_RATE)
