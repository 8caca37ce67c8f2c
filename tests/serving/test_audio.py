"""Audio files as they are sent."""

import base64
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from azeros.errors import AudioError
from azeros.serving.audio import AudioCache, read_base64, read_clip
from tests.serving.sound import encoded, muxed, noise


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus"])
def test_each_format_is_heard(kind: str) -> None:
    clip = read_clip(encoded(noise(1.0), kind), 10)
    assert clip.duration_s == pytest.approx(1.0, abs=0.1)
    assert np.std(clip.samples) == pytest.approx(0.1, rel=0.5)


def test_several_channels_and_other_rates_are_heard() -> None:
    samples = np.stack([noise(6.0, seed) for seed in range(8)], axis=1)
    assert read_clip(encoded(samples, rate=192_000), 10).duration_s == pytest.approx(0.5, abs=1e-3)


def test_equal_sound_has_equal_keys() -> None:
    samples = (np.round(noise(1.0, 1) * 2**15) / 2**15).astype(np.float32)
    files = encoded(samples), encoded(samples, subtype="PCM_16"), encoded(samples, "flac", subtype="PCM_16")
    other = read_clip(encoded(noise(1.0, 2)), 10).key
    assert len(set(files)) == 3
    assert {read_clip(file, 10).key for file in files}.isdisjoint({other})
    assert len({read_clip(file, 10).key for file in files}) == 1


def test_a_clip_of_the_limit_is_taken_and_a_longer_one_is_not() -> None:
    assert read_clip(encoded(noise(2.0)), 2.0).duration_s == 2.0
    with pytest.raises(AudioError, match=r"too long; 2 s, cut it into pieces of at most 1\.99 s"):
        read_clip(encoded(noise(2.0)), 1.99)


def test_a_header_that_announces_terabytes_takes_no_memory() -> None:
    """A FLAC header counts its samples in 36 bits, and libsndfile believes it."""
    content = bytearray(encoded(noise(1.0), "flac"))
    (packed,) = struct.unpack(">Q", content[18:26])
    content[18:26] = struct.pack(">Q", packed & ~(2**36 - 1) | 2**36 - 1)
    with pytest.raises(AudioError, match="too long"):
        read_clip(bytes(content), 600)
    with pytest.raises(AudioError, match="too large"):
        read_clip(bytes(content), 1e9)


@pytest.mark.parametrize("kind", ["m4a", "webm", "adts"])
def test_the_limit_holds_where_no_header_tells_the_length(kind: str) -> None:
    content = muxed(np.zeros(16000 * 60, np.float32), kind)
    assert read_clip(content, 61).duration_s == pytest.approx(60, abs=0.2)
    with pytest.raises(AudioError, match="too long; 2 s, cut it into pieces of at most 2 s"):
        read_clip(content, 2)


@pytest.mark.parametrize(
    "document",
    [
        "ffconcat version 1.0\nfile speech.wav\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_what_names_other_sources_opens_none(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A playlist would be answered with a file of the server, a session description with what comes to a port of it."""
    (tmp_path / "speech.wav").write_bytes(encoded(noise(1.0)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match="unreadable"):
        read_clip(document.encode(), 10)


def test_a_file_without_a_sampling_rate_is_refused() -> None:
    content = bytearray(muxed(noise(1.0), "adts"))
    content[2:4] = b"\0\0"  # no table of FFmpeg has the rate
    with pytest.raises(AudioError, match="unreadable"):
        read_clip(bytes(content), 10)


def test_a_codec_that_nobody_knows_is_refused() -> None:
    content = muxed(noise(1.0), "webm").replace(b"A_OPUS", b"A_XPUS")
    with pytest.raises(AudioError, match="no sound that can be decoded"):
        read_clip(content, 10)


def test_immense_samples_are_refused() -> None:
    """Their energy is infinite in float32, and would make the features NaN."""
    with pytest.raises(AudioError, match="not finite"):
        read_clip(encoded(1e20 * noise(1.0)), 10)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("%%%", "not base64"),
        ("é", "not base64"),
        ("", "empty"),
        (base64.b64encode(b"text").decode(), "unreadable"),
    ],
)
def test_what_is_no_audio_is_refused_by_name(data: str, word: str) -> None:
    with pytest.raises(AudioError, match=word):
        read_base64(data, 10)


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    cache = AudioCache(3 * 40)
    slots = {name: [torch.zeros(2, 2), torch.zeros(3, 2)] for name in "abcd"}  # 40 bytes each
    for name in "abc":
        cache.put(name, slots[name])
    found = cache.get("a")
    assert found
    assert [slot.shape for slot in found] == [slot.shape for slot in slots["a"]]
    cache.put("d", slots["d"])
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]
    cache.put("large", [torch.zeros(1000)])
    assert cache.get("large") is None


def test_the_cache_keeps_nothing_of_a_batch_but_the_clip() -> None:
    cache, batch = AudioCache(1000), torch.zeros(1000, 2, 2)
    cache.put("a", [batch[0]])
    (slot,) = cache.get("a") or []
    assert slot.untyped_storage().nbytes() == 16
