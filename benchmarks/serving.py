"""Clients that ask the service all the time, against as many that ask the same model one after the other.

Example: OMP_NUM_THREADS=1 python benchmarks/serving.py --requests 96
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import soundfile
from numpy.typing import NDArray
from transformers.generation.streamers import BaseStreamer

from azeros import AZerosModel

_ROOT = Path(__file__).parents[1]
_WEIGHTS = _ROOT / "azeros" / "tiny" / "weights"
_PROMPT = "repeat what was said."
_RATE = 16_000
_STARTUP_S = 120


@dataclass(frozen=True)
class Answer:
    """What a client saw of one answer."""

    text: str
    first_token_s: float
    """From the question on."""


Wave = NDArray[np.float32]
Ask = Callable[[Wave], Answer]


class FirstToken(BaseStreamer):
    """Notes when the first token came; `put` is called with the prompt before it."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is left to do."""


def naive(model: AZerosModel, num_tokens: int) -> Ask:
    """Asks the model itself, one at a time; others wait for their turn in the order in which they came."""
    turns = ThreadPoolExecutor(1)
    options: dict[str, Any] = {"max_new_tokens": num_tokens, "min_new_tokens": num_tokens, "min_length": None}

    def answer(wave: Wave, start: float) -> Answer:
        first = FirstToken()
        part = {"type": "audio", "array": wave, "sampling_rate": _RATE}
        messages = [[{"role": "user", "content": [part, {"type": "text", "text": _PROMPT}]}]]
        (text,) = model.generate([], messages, streamer=first, **options)
        return Answer(text, first.times[1] - start)

    return lambda wave: turns.submit(answer, wave, time.perf_counter()).result()


def over_http(url: str, num_tokens: int) -> Ask:
    """Asks the service, streaming; lines are understood after the answer, to leave the processor to the service."""
    client = httpx.Client(timeout=600, limits=httpx.Limits(max_connections=None))
    name = client.get(f"{url}/v1/models").json()["data"][0]["id"]

    def ask(wave: Wave) -> Answer:
        file = io.BytesIO()
        soundfile.write(file, wave, _RATE, format="wav", subtype="FLOAT")
        audio = {"data": base64.b64encode(file.getvalue()).decode(), "format": "wav"}
        parts = [{"type": "input_audio", "input_audio": audio}, {"type": "text", "text": _PROMPT}]
        body = {
            "model": name,
            "messages": [{"role": "user", "content": parts}],
            "max_tokens": num_tokens,
            "min_tokens": num_tokens,
            "stream": True,
        }
        start = time.perf_counter()
        lines: list[tuple[float, str]] = []
        with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                lines.append((time.perf_counter() - start, line.removeprefix("data: ")))
        chunks = [(at_s, json.loads(line)) for at_s, line in lines if line.startswith("{")]
        pieces = [(at_s, chunk["choices"][0]["delta"].get("content")) for at_s, chunk in chunks]
        said = [(at_s, piece) for at_s, piece in pieces if piece]
        return Answer("".join(piece for _, piece in said), said[0][0])

    return ask


def run(ask: Ask, waves: list[Wave], num_clients: int, apart_s: float = 0.0) -> tuple[float, list[Answer]]:
    """Seconds until all of `waves` are answered, by clients that each ask the next one, and the answers.

    They begin one after the other, `apart_s` between two of them.
    """

    def asked(number: int, wave: Wave) -> Answer:
        if number < num_clients:
            time.sleep(number * apart_s)
        return ask(wave)

    start = time.perf_counter()
    with ThreadPoolExecutor(num_clients) as clients:
        answers = list(clients.map(asked, itertools.count(), waves))
    return time.perf_counter() - start, answers


@contextmanager
def service(folder: Path, **settings: str) -> Iterator[tuple[str, int]]:
    """Address and process id of a running service of the model in `folder`, set up by environment variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"AZEROS_MODEL": str(folder), "PYTHONPATH": str(_ROOT)} | settings
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _STARTUP_S
            while not _is_ready(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"the service did not start:\n{log.read().decode()}")
                time.sleep(0.2)
            yield url, process.pid
        finally:
            process.terminate()  # which ends its worker too
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def main() -> None:
    """Ask both, with few and many clients."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a packaged model (default: fresh projectors, tiny world)")
    parser.add_argument("--requests", type=int, default=96, help="at each number of clients (default 96)")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each answer (default 200)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="default 1 8 32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.model or fresh_model(Path(temporary))
        compare(folder, args.requests, args.tokens, args.clients)


def fresh_model(folder: Path) -> Path:
    """The shipped foundation with fresh projectors, saved in `folder`."""
    parts = (_WEIGHTS / name for name in ("llm", "speech_encoder", "paraling_encoder"))
    AZerosModel.from_foundation(*parts, seed=1).save_pretrained(folder / "model")
    return folder / "model"


def compare(folder: Path, num_requests: int, num_tokens: int, clients: list[int]) -> None:
    """Print a line for each number of clients: the service, and how it compares with the naive loop."""
    drawn = np.random.default_rng(0)
    seconds = drawn.uniform(1, 4, num_requests)
    waves = [(0.1 * drawn.standard_normal(int(_RATE * own))).astype(np.float32) for own in seconds]
    model = AZerosModel.from_pretrained(folder)
    alone = naive(model, num_tokens)
    alone(waves[0])
    print(
        f"{num_requests} clips of 1 to 4 s, none known before, {num_tokens} tokens each; naive: one at a time"
    )
    with service(folder, AZEROS_AUDIO_CACHE_MB="0") as (url, pid):
        asked = over_http(url, num_tokens)
        asked(waves[0])
        for num_clients in clients:
            # The naive loop is as fast with any number of clients, so it gets fewer requests and the same load.
            few = waves[: max(num_clients, num_requests // 4)]
            cpu_s = time.process_time(), _cpu_s(pid)
            naive_s, wanted = run(alone, few, num_clients)
            naive_cpu_s = time.process_time() - cpu_s[0]
            served_s, answers = run(asked, waves, num_clients)
            served_cpu_s = _cpu_s(pid) - cpu_s[1]
            rates = len(waves) / served_s, len(few) / naive_s
            costs = served_cpu_s / len(waves), naive_cpu_s / len(few)
            equal = sum(a.text == b.text for a, b in zip(wanted, answers, strict=False))
            # As many in a second as are answered in one: who asks at the same time as all others waits for all of them.
            _, spread = run(asked, waves, num_clients, served_s / len(waves))
            print(
                f"{num_clients:3d} clients: {rates[0]:6.2f} answers/s, naive {rates[1]:.2f}: {rates[0] / rates[1]:.1f} times; "
                f"CPU {1000 * costs[0]:.0f} ms an answer, naive {1000 * costs[1]:.0f}: {costs[1] / costs[0]:.1f} times; "
                f"first token {_times(answers, wanted)}; of clients that begin one after the other {_p95(spread):.0f} ms; "
                f"{equal} of {len(wanted)} answers equal",
                flush=True,
            )


def _cpu_s(pid: int) -> float:
    """Processor time so far of a process and its children."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _times(served: list[Answer], naive: list[Answer]) -> str:
    return ", ".join(
        f"{name} {of(served):.0f} ms, naive {of(naive):.0f} ({of(served) / of(naive):.2f} of it)"
        for name, of in {"p50": _p50, "p95": _p95}.items()
    )


def _p50(answers: list[Answer]) -> float:
    return statistics.median(1000 * answer.first_token_s for answer in answers)


def _p95(answers: list[Answer]) -> float:
    return sorted(1000 * answer.first_token_s for answer in answers)[int(0.95 * (len(answers) - 1))]


if __name__ == "__main__":
    main()
