"""A server with OpenAI's interface on this machine: real HTTP, and it does as it is told."""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Mapping[str, str], bytes]
KEY = "secret"


def completion(*answers: str, tokens: int = 10, model: str = "judge-2025") -> Reply:
    """A chat completion."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}} for i, text in enumerate(answers)
    ]
    content = {"model": model, "choices": choices, "usage": {"total_tokens": tokens}}
    return 200, {}, json.dumps(content).encode()


class OpenAIServer:
    """Answers with `reply(number of the request, body)`, and keeps paths and bodies."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.reply = reply
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.base_url = ""
        self._lock = threading.Lock()

    def answer(self, path: str, key: str | None, body: dict[str, Any]) -> Reply:
        if key != f"Bearer {KEY}":
            return 401, {}, b'{"error": {"message": "Incorrect API key provided"}}'
        with self._lock:
            self.paths.append(path)
            self.bodies.append(body)
            number = len(self.bodies) - 1
        return self.reply(number, body)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where the client went away: a traceback would land in what the test reads."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(reply: Callable[[int, dict[str, Any]], Reply]) -> Iterator[OpenAIServer]:
    """A server that stops with the block."""
    told = OpenAIServer(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, content = told.answer(self.path, self.headers["Authorization"], body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        told.base_url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield told
        server.shutdown()
