"""Good and bad requests to the service for some minutes: is each good one answered, each bad one refused, and does memory grow?

Exits with 1 if it is not so.

Example: OMP_NUM_THREADS=1 python benchmarks/soak.py --minutes 10
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import soundfile
from serving import fresh_model, service

_RATE = 16_000
_CHAT = "/v1/chat/completions"
_NUM_GOOD_CLIENTS, _NUM_BAD_CLIENTS = 6, 2
_BAD_PAUSE_S = 0.1
_WARM_UP_MINUTES = 2  # by then the cache of clips is full, and every kind of request has come
_MOST_GROWTH = 0.03
_BETWEEN_LOOKS_S = 0.5

Request = tuple[str, str, dict[str, Any]]
"""A name to count by, the path, and what httpx sends there."""
Outcomes = Counter[tuple[str, int]]
"""By name and status; 0 where the connection failed, or an answer had no end."""


def encoded(samples: Any, kind: str = "wav", rate: int = _RATE) -> bytes:
    """Samples as a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype="FLOAT" if kind == "wav" else None)
    return file.getvalue()


def chat(model: str, clip: bytes | str, **fields: Any) -> dict[str, Any]:
    """The body of a question about a clip."""
    data = clip if isinstance(clip, str) else base64.b64encode(clip).decode()
    parts = [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]
    return {"model": model, "messages": [{"role": "user", "content": parts}], "max_tokens": 40} | fields


def good_requests(model: str, seed: int) -> Iterator[Request]:
    """Without end, each about a clip that nobody sent before."""
    drawn = np.random.default_rng(seed)
    for kind in itertools.cycle(("wav", "flac", "ogg", "mp3")):
        clips = (
            encoded(0.1 * drawn.standard_normal(int(_RATE * drawn.uniform(1, 4))), kind) for _ in range(3)
        )
        yield "whole", _CHAT, {"json": chat(model, next(clips))}
        yield "streamed", _CHAT, {"json": chat(model, next(clips), stream=True)}
        yield "form", "/generate", {"files": {"audio": next(clips)}, "data": {"max_new_tokens": "40"}}


def bad_requests(model: str, seed: int) -> Iterator[Request]:
    """Without end, in an order drawn anew each time."""
    flac = encoded(0.1 * np.random.default_rng(seed).standard_normal(2 * _RATE), "flac")
    clips: list[bytes | str] = [
        b"not audio at all",
        b"",
        flac[: len(flac) // 2],
        bytes(byte ^ 0x55 for byte in flac),
        encoded(np.zeros(_RATE // 10)),
        encoded(np.full(_RATE, np.nan)),
        encoded(np.zeros(7200 * 1000), "flac", 1000),  # two hours
        b"ffconcat version 1.0\nfile pyproject.toml\n",
        "no base64",
    ]
    fields: list[dict[str, Any]] = [
        {"model": "gpt"},
        {"max_tokens": -1},
        {"max_tokens": 10**9},
        {"temperature": "hot"},
        {"messages": [{"role": "user", "content": "a"}] * 10_000},
    ]
    each: list[Request] = [
        *(("audio", _CHAT, {"json": chat(model, clip)}) for clip in clips),
        *(("audio", "/generate", {"files": {"audio": clip}}) for clip in clips if isinstance(clip, bytes)),
        *(("field", _CHAT, {"json": chat(model, flac) | own}) for own in fields),
        ("no JSON", _CHAT, {"content": b"{"}),
        ("too large", _CHAT, {"content": b" " * (33 * 2**20)}),
        ("no file", "/generate", {"data": {"audio": "http://localhost/a.wav"}}),
        ("no such path", "/v1/embeddings", {"json": {}}),
        ("left", _CHAT, {"json": chat(model, flac, stream=True, max_tokens=3000, min_tokens=3000)}),
    ]
    drawn = np.random.default_rng(seed)
    while True:
        yield from (each[index] for index in drawn.permutation(len(each)))


def ask(client: httpx.Client, request: Request) -> int:
    """The status that a request gets; 0 as in Outcomes."""
    name, path, content = request
    try:
        with client.stream("POST", path, **content) as response:
            if name == "left":
                next(response.iter_raw())
                return response.status_code
            text = response.read().decode()
    except httpx.HTTPError:
        return 0
    has_end = {"whole": '"finish_reason":"', "streamed": "data: [DONE]\n\n"}.get(name, "") in text
    return response.status_code if has_end or response.is_error else 0


def keep_asking(
    url: str, requests: Iterator[Request], end: float, pause_s: float, outcomes: Outcomes
) -> None:
    """Send one after the other until `end`, and count what becomes of them."""
    with httpx.Client(base_url=url, timeout=600) as client:
        while time.monotonic() < end:
            request = next(requests)
            outcomes[request[0], ask(client, request)] += 1
            time.sleep(pause_s)


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its children, in MB."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(process.memory_info().rss for process in processes)) / 1e6


def memory_until(end: float, pid: int) -> float:
    """Its median up to `end`: at any one moment there are bodies of 30 MB in it, or none."""
    looks = [memory_mb(pid)]
    while time.monotonic() < end:
        time.sleep(_BETWEEN_LOOKS_S)
        looks.append(memory_mb(pid))
    return statistics.median(looks)


def soak(folder: Path, minutes: int) -> list[str]:
    """Print a line each minute, and at the end what became of every kind of request; returns what is not as it should be."""
    good: list[Outcomes] = [Counter() for _ in range(_NUM_GOOD_CLIENTS)]
    bad: list[Outcomes] = [Counter() for _ in range(_NUM_BAD_CLIENTS)]
    with (
        service(folder, AZEROS_AUDIO_CACHE_MB="1") as (url, pid),
        ThreadPoolExecutor(len(good + bad)) as pool,
    ):
        model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
        memory = [memory_mb(pid)]
        print(f"start: {memory[0]:.0f} MB", flush=True)
        start = time.monotonic()
        end = start + 60 * minutes
        asking = [
            *(
                pool.submit(keep_asking, url, good_requests(model, i), end, 0.0, own)
                for i, own in enumerate(good)
            ),
            *(
                pool.submit(keep_asking, url, bad_requests(model, i), end, _BAD_PAUSE_S, own)
                for i, own in enumerate(bad)
            ),
        ]
        for minute in range(1, minutes + 1):
            memory.append(memory_until(start + 60 * minute, pid))
            print(f"minute {minute}: {told(good)}, bad {total(bad).total()}; {memory[-1]:.0f} MB", flush=True)
        for client in asking:
            client.result()
        print(f"end: {told(good)}; {memory_mb(pid):.0f} MB")
    for (name, status), number in sorted(total(bad).items()):
        print(f"  {name}: {number} times {status}")
    warm = memory[min(_WARM_UP_MINUTES, minutes)]
    growth = memory[-1] / warm - 1
    print(f"growth after minute {_WARM_UP_MINUTES}: {memory[-1] - warm:+.0f} MB, {100 * growth:+.1f} %")
    return [
        *(f"{number} times {status} for a good request" for (_, status), number in failed(good).items()),
        *(
            f"{number} times {status} for {name}"
            for (name, status), number in total(bad).items()
            if not (400 <= status < 500 or (name == "left" and status == 200))
        ),
        *([f"memory grew by more than {100 * _MOST_GROWTH:.0f} %"] if growth > _MOST_GROWTH else []),
    ]


def total(outcomes: list[Outcomes]) -> Outcomes:
    """All clients' together; copies, since they go on counting."""
    return sum((own.copy() for own in outcomes), Counter())


def told(good: list[Outcomes]) -> str:
    """How many good requests were answered, and how many were not."""
    wrong = failed(good)
    return f"good {total(good).total()}, {wrong.total()} of them failed {dict(wrong) or ''}".rstrip()


def failed(good: list[Outcomes]) -> Outcomes:
    """The good requests that were not answered."""
    return Counter({key: number for key, number in total(good).items() if key[1] != 200})


def main() -> None:
    """Ask, print, and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a packaged model (default: fresh projectors, tiny world)")
    parser.add_argument("--minutes", type=int, default=10, help="default 10")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        wrong = soak(args.model or fresh_model(Path(temporary)), args.minutes)
    print("\n".join(wrong) or "as it should be")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
