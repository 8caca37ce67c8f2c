"""Answers that are spoken."""

import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from azeros.errors import ParamsError
from azeros.serving import talker
from azeros.serving.settings import ServingSettings
from azeros.serving.talker import Espeak, Said, make, speech, understand
from tests.serving.sound import encoded, noise


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("高兴|EOP|hello there", ("高兴", "hello there")),
        (" 粤语 |EOP| hello|EOP|you ", ("粤语", "hello|EOP|you")),
        ("singing|EOP|hello", ("正常", "hello")),
        (" hello ", ("正常", "hello")),
        ("悲伤|EOP|", ("悲伤", "")),
    ],
)
def test_an_answer_says_what_is_said_and_how(answer: str, said: tuple[str, str]) -> None:
    assert understand(answer) == said


def heard(file: bytes, kind: str) -> np.ndarray:
    if kind == "pcm16":
        return np.frombuffer(file, "<i2") / 2**15
    samples, rate = soundfile.read(io.BytesIO(file))
    assert rate == talker.SAMPLING_RATE
    return np.asarray(samples)


@pytest.mark.parametrize("kind", talker.FORMATS)
def test_each_format_holds_the_same_sound(kind: str) -> None:
    spoken = {
        own: heard(speech(Espeak(), "tom wants red apples", "alloy", own)[1], own) for own in ("wav", kind)
    }
    durations_s = [len(samples) / talker.SAMPLING_RATE for samples in spoken.values()]
    assert durations_s[0] > 0.5
    assert durations_s[-1] == pytest.approx(durations_s[0], abs=0.1)
    assert np.std(spoken[kind]) == pytest.approx(np.std(spoken["wav"]), rel=0.2)


def test_styles_and_voices_differ() -> None:
    espeak, words = Espeak(), "tom wants three red apples"
    lengths = [len(espeak.speak(Said(style, words), "echo")[0]) for style in ("非常快速", "正常", "非常慢速")]
    assert lengths[0] < 0.8 * lengths[1] < 0.8 * 0.8 * lengths[2]
    assert len({espeak.speak(Said("正常", words), voice)[0].tobytes() for voice in espeak.voices}) == 4
    assert len(espeak.speak(Said("正常", "你好"), "echo")[0]) > 0


@pytest.mark.parametrize("answer", ["", "...", "高兴|EOP|"])
def test_nothing_to_say_is_silence(answer: str) -> None:
    assert not heard(speech(Espeak(), answer, "alloy", "wav")[1], "wav").any()


def test_cosyvoice_is_asked_as_its_examples_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    class CosyVoice2:
        sample_rate = 24_000

        def __init__(self, folder: str) -> None:
            asked.append((folder,))

        def inference_instruct2(self, *args: object, stream: bool) -> list[dict[str, torch.Tensor]]:
            asked.append(args)
            return [{"tts_speech": torch.full((1, 2400), 0.5)}] * 2

    module = types.ModuleType("cosyvoice.cli.cosyvoice")
    module.CosyVoice2 = CosyVoice2  # type: ignore[attr-defined]
    settings = ServingSettings(talker="cosyvoice", talker_model="model", talker_voices=str(tmp_path))
    with pytest.raises(ParamsError, match="AZEROS_TALKER_VOICES: no wav in"):
        make(settings)
    (tmp_path / "anna.wav").write_bytes(encoded(noise(1.0)))
    with pytest.raises(ParamsError, match="put FunAudioLLM/CosyVoice"):
        make(settings)
    for name in ("cosyvoice", "cosyvoice.cli"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "cosyvoice.cli.cosyvoice", module)
    cosyvoice = make(settings)
    assert cosyvoice.voices == ["anna"]
    transcript, file = speech(cosyvoice, "四川话|EOP|hello", "anna", "wav")
    assert transcript == "hello"
    assert len(heard(file, "wav")) == 4800
    assert asked == [("model",), ("hello", "用四川话说这句话<|endofprompt|>", str(tmp_path / "anna.wav"))]
