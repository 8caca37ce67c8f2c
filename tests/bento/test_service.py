"""`bentoml serve` as a process of its own, asked by OpenAI's client and by curl."""

import base64
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import soundfile

from azeros.evaluation.systems.azeros import Azeros
from azeros.evaluation.systems.base import Recording, Request
from azeros.evaluation.systems.endpoint import ServedModel
from azeros.model.speech_llm import AZerosModel
from azeros.params import listed_systems
from azeros.serving.talker import SYSTEM_MESSAGE, understand
from tests.conftest import ROOT
from tests.serving.sound import audio_part, encoded, noise

pytestmark = pytest.mark.slow
_PATIENCE_S = 120
PAGE = ROOT / "docs" / "serving.md"


@dataclass
class Server:
    """A running service."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def ask(self, messages: Any, timeout_s: float = _PATIENCE_S, **options: Any) -> Any:
        create: Any = self.client.with_options(timeout=timeout_s).chat.completions.create
        return create(messages=messages, **({"model": "azeros"} | options))

    def metrics(self) -> dict[str, float]:
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith("azeros_"))
        return {name: float(value) for name, _, value in pairs}

    def wait_for(self, metric: str, value: float) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self.metrics().get(metric, 0) < value:
            assert time.monotonic() < deadline, self.metrics()
            time.sleep(0.05)


def serve(
    log: Path, *target: str, python: Path = Path(sys.executable), folder: Path = ROOT, **environment: str
) -> Server:
    """Start `bentoml serve` in `folder` and wait until it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "bentoml", "serve", *target, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | environment, stdout=stream, stderr=stream
        )
    server = Server(f"http://127.0.0.1:{port}", process)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200:
                return server
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            stop(process)
            raise AssertionError(log.read_text())
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the supervisor, which ends its worker."""
    process.terminate()
    assert process.wait(_PATIENCE_S) == 0


@pytest.fixture(scope="module")
def model_folder(tiny_model: AZerosModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "azeros"
    tiny_model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model_folder: Path) -> Iterator[Server]:
    running = serve(model_folder.parent / "log", AZEROS_MODEL=str(model_folder), PYTHONPATH=str(ROOT))
    yield running
    stop(running.process)


def exactly(num: int) -> dict[str, Any]:
    """Settings of an answer of `num` tokens."""
    return {"max_tokens": num, "extra_body": {"min_tokens": num}}


def expected(model: AZerosModel, messages: list[dict[str, Any]], num: int) -> str:
    options: dict[str, Any] = {"max_new_tokens": num, "min_new_tokens": num, "min_length": None}
    (text,) = model.generate([], [messages], by_length=True, **options)
    return str(text)


def sent(seed: int, text: str = "repeat what was said.") -> list[dict[str, Any]]:
    """A user's message with a clip, as it is sent; a second and a bit, by `seed`."""
    clip = audio_part(encoded(noise(1 + seed / 10, seed)))
    return [{"role": "user", "content": [clip, {"type": "text", "text": text}]}]


def heard(seed: int, text: str = "repeat what was said.") -> list[dict[str, Any]]:
    """The same as the model takes it."""
    clip = {"type": "audio", "array": noise(1 + seed / 10, seed), "sampling_rate": 16000}
    return [{"role": "user", "content": [clip, {"type": "text", "text": text}]}]


def test_an_answer_is_that_of_generate(server: Server, tiny_model: AZerosModel) -> None:
    found = server.ask(sent(1), **exactly(12))
    assert found.choices[0].message.content == expected(tiny_model, heard(1), 12)
    assert found.choices[0].finish_reason == "length"
    assert found.model == "azeros"
    usage = found.usage
    assert usage
    assert usage.completion_tokens == 12
    assert usage.total_tokens == usage.prompt_tokens + 12
    assert usage.prompt_tokens_details
    assert 0 < (usage.prompt_tokens_details.audio_tokens or 0) < usage.prompt_tokens


def test_the_benchmarks_get_from_it_what_they_get_from_the_model(server: Server, model_folder: Path) -> None:
    served, own = (listed_systems()[name].settings for name in ("azeros-served", "azeros"))
    there = ServedModel("served", served.model_copy(update={"base_url": f"{server.url}/v1"}))  # type: ignore[arg-type]
    here = Azeros(own.model_copy(update={"path": str(model_folder)}))  # type: ignore[arg-type]
    files = [encoded(noise(1 + seed / 10, seed), subtype="PCM_16") for seed in range(4)]
    requests = [
        Request(Recording(str(number), len(file), partial(bytes, file)), instruction, None)
        for number, file in enumerate(files)
        for instruction in ("", "how does the speaker feel?")
    ]
    replies = there.respond(requests)
    assert replies == here.respond(requests)
    assert all(reply.response for reply in replies)


def test_a_streamed_answer_is_the_same_in_pieces(server: Server, tiny_model: AZerosModel) -> None:
    options = {"include_usage": True}
    stream = server.ask(sent(2), stream=True, stream_options=options, **exactly(12))
    *chunks, end, last = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content for chunk in chunks]
    assert len(pieces) > 1
    assert "".join(pieces) == expected(tiny_model, heard(2), 12)
    assert end.choices[0].finish_reason == "length"
    assert not last.choices
    assert last.usage.completion_tokens == 12


def test_a_stream_ends_with_done(server: Server) -> None:
    body = {"model": "azeros", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    found = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert found.headers["content-type"].startswith("text/event-stream")
    events = found.text.split("\n\n")
    assert all(event.startswith("data: {") for event in events[:-2])
    assert events[-2:] == ["data: [DONE]", ""]


def test_two_clips_in_two_turns(server: Server, tiny_model: AZerosModel) -> None:
    system = {"role": "system", "content": "be brief"}
    first = server.ask([system, *sent(3)], **exactly(8))
    said = {"role": "assistant", "content": expected(tiny_model, [system, *heard(3)], 8)}
    before = server.metrics()['azeros_clips_total{how="encoded"}']
    answer = first.choices[0].message
    second = server.ask([system, *sent(3), answer, *sent(4, "and now?")], **exactly(8))
    wanted = expected(tiny_model, [system, *heard(3), said, *heard(4, "and now?")], 8)
    assert second.choices[0].message.content == wanted
    assert server.metrics()['azeros_clips_total{how="encoded"}'] == before + 1


def test_many_at_a_time_are_answered_as_each_alone(server: Server, tiny_model: AZerosModel) -> None:
    def ask(seed: int) -> Any:
        found = server.ask(sent(seed), **exactly(5 * seed))
        return found.choices[0].message.content

    seeds = range(1, 9)
    with ThreadPoolExecutor(len(seeds)) as pool:
        answers = list(pool.map(ask, seeds))
    assert answers == [expected(tiny_model, heard(seed), 5 * seed) for seed in seeds]
    assert (
        server.metrics()['azeros_batch_size_bucket{le="1.0"}'] < server.metrics()["azeros_batch_size_count"]
    )


def test_an_error_is_one_of_openais_exceptions(server: Server) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        server.ask(sent(1), model="gpt")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        server.ask(sent(1), max_tokens=-1)
    assert wrong.value.param == "max_tokens"


def test_an_answer_is_spoken(server: Server, tiny_model: AZerosModel) -> None:
    def spoken(messages: Any, voice: str = "alloy", kind: str = "wav") -> Any:
        audio = {"voice": voice, "format": kind}
        return server.ask(messages, modalities=["text", "audio"], audio=audio, **exactly(12))

    message = spoken(sent(1)).choices[0].message
    system = {"role": "system", "content": SYSTEM_MESSAGE}
    wanted = understand(expected(tiny_model, [system, *heard(1)], 12)).content
    assert message.content is None
    assert message.audio.transcript == wanted
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(message.audio.data)))
    assert rate == 24_000
    assert len(samples) > 0
    more = [system, *heard(1), {"role": "assistant", "content": wanted}, *heard(2)]
    second = spoken([*sent(1), message, *sent(2)]).choices[0].message
    assert second.audio.transcript == understand(expected(tiny_model, more, 12)).content
    for voice, kind, param in (("nobody", "wav", "audio.voice"), ("alloy", "aac", "audio.format")):
        with pytest.raises(openai.BadRequestError) as wrong:
            spoken(sent(1), voice, kind)
        assert wrong.value.param == param


def test_limits_are_declared(server: Server) -> None:
    (model,) = server.client.models.list()
    assert model.id == "azeros"
    assert model.model_extra
    assert model.model_extra["limits"]["max_audio_s"] == 600
    assert server.client.models.retrieve("azeros") == model


def test_who_goes_frees_the_place(server: Server) -> None:
    cancelled = 'azeros_requests_total{outcome="cancelled"}'
    before = server.metrics().get(cancelled, 0)
    stream = server.ask(sent(1), stream=True, **exactly(3000))
    next(iter(stream))
    stream.close()
    server.wait_for(cancelled, before + 1)
    with pytest.raises(openai.APITimeoutError):
        server.ask(sent(1), timeout_s=1, **exactly(3500))
    server.wait_for(cancelled, before + 2)


@pytest.fixture
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recording that the documentation asks about, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "speech.wav"
    path.write_bytes(encoded(noise(1.1, 1)))
    return path


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("page", ["README.md", "docs/serving.md"])
def test_curl_asks_as_the_pages_say(server: Server, tiny_model: AZerosModel, speech: Path, page: str) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    command = next(line for line in lines if line.startswith("curl "))
    assert "localhost:3000" in command

    def said(command: str) -> str:
        here = command.replace("http://localhost:3000", server.url)
        return subprocess.run(here, shell=True, check=True, capture_output=True, text=True).stdout

    (wanted,) = tiny_model.generate([], [heard(1, "what did the speaker say?")])
    assert said(command) == wanted
    assert "at least 1" in said(f"{command} -F max_new_tokens=-1")
    speech.write_bytes(b"not audio at all")
    assert "unreadable" in said(command)


@pytest.mark.usefixtures("speech")
def test_the_python_of_the_page_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block.replace("http://localhost:3000", server.url), str(PAGE), "exec"), {})
    assert "CompletionUsage" in capsys.readouterr().out


def test_paths_that_do_not_exist_are_counted_together(server: Server) -> None:
    for index in range(3):
        assert httpx.get(f"{server.url}/v1/no-such-{index}").status_code == 404
        assert httpx.get(f"{server.url}/no-such-{index}").status_code == 404
    assert server.metrics()['azeros_http_responses_total{endpoint="other",status="404"}'] >= 3
    assert "no-such" not in httpx.get(f"{server.url}/metrics").text


def test_metrics_tell_what_was_done(server: Server) -> None:
    server.ask(sent(1), **exactly(4))
    metrics = server.metrics()
    for name in ("time_to_first_token_seconds_count", "tokens_per_second_count", "tokens_total"):
        assert metrics[f"azeros_{name}"] > 0
    assert metrics["azeros_queue_requests"] == 0
    assert metrics["azeros_audio_seconds_total"] >= 1.1


def test_sigterm_finishes_what_runs(model_folder: Path, tmp_path: Path) -> None:
    server = serve(tmp_path / "log", AZEROS_MODEL=str(model_folder), PYTHONPATH=str(ROOT))
    try:
        stream = server.ask(sent(1), stream=True, **exactly(300))
        chunks = iter(stream)
        next(chunks)
        server.process.terminate()
        *_, last = chunks
        assert last.choices[0].finish_reason == "length"
        assert server.process.wait(_PATIENCE_S) == 0
    finally:
        stop(server.process)
