"""A web server of audio files, good and bad, for the tests of audio by URL."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.serving.sound import encoded, noise

CLIP = encoded(noise(1.0))
SECRET = b"what only the inside may read"


class FileServer(ThreadingHTTPServer):
    """Serves `/clips/`, and notes what it is asked for and as whom."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/clips/"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["host"]))
        name = self.path.rpartition("/")[2].partition("?")[0]
        self.send_response({"good.wav": 200, "moved": 302, "gone": 404}.get(name, 200))
        self.send_header("location", self.server.url + "good.wav")
        self.end_headers()
        if name == "slow":
            self.server.ended.wait(30)
        elif name == "endless":
            while self._sent(bytes(2**16)):
                pass
        else:
            self._sent(CLIP if name.endswith(".wav") else SECRET)

    def _sent(self, content: bytes) -> bool:
        try:
            self.wfile.write(content)
        except OSError:
            return False
        return True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def file_server(tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    with FileServer() as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()
