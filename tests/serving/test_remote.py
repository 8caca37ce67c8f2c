"""Audio by URL from a real web server: fetched where that is allowed, else refused with the reason and nothing more."""

import asyncio
import gc
import socket
import ssl
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from azeros.errors import OverloadError, RequestError
from azeros.serving.remote import MAX_URLS, Remote
from azeros.serving.settings import ServingSettings
from tests.serving.files import CLIP, SECRET, FileServer, file_server


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def remote(*prefixes: str, **settings: Any) -> Remote:
    given = {"AZEROS_AUDIO_URLS": ",".join(prefixes)} if prefixes else {}
    variables = {f"AZEROS_{name.upper()}": str(value) for name, value in settings.items()}
    return Remote(ServingSettings.from_environment(given | variables))


def fetch(remote: Remote, *urls: str) -> dict[str, bytes]:
    async def fetching() -> dict[str, bytes]:
        async with remote.fetched({url: f"place.{number}" for number, url in enumerate(urls)}) as contents:
            return {url: bytes(content) for url, content in contents.items()}

    return asyncio.run(fetching())


def refusal(remote: Remote, *urls: str) -> str:
    with pytest.raises(RequestError) as caught:
        fetch(remote, *urls)
    assert caught.value.code == "invalid_audio"
    assert str(caught.value.param) in str(caught.value)
    assert SECRET.decode() not in str(caught.value)
    return str(caught.value)


def test_allowed_files_are_fetched_as_they_are(files: FileServer) -> None:
    urls = [f"{files.url}{name}" for name in ("good.wav", "a%20b.wav?key=1", "other")]
    assert fetch(remote(files.url), *urls) == dict(zip(urls, [CLIP, CLIP, SECRET], strict=True))


def test_without_an_allow_list_it_says_what_to_set(files: FileServer) -> None:
    files.asked.clear()
    assert "AZEROS_AUDIO_URLS" in refusal(remote(), f"{files.url}good.wav")
    assert fetch(remote()) == {}
    assert not files.asked


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../good.wav", "'..'"),
        ("moved", "302: redirects are not followed"),
        ("gone", "answered 404"),
        ("endless", "more than 1 MB"),
        ("slow", "within 0.5 s"),
    ],
)
def test_a_refusal_names_the_reason(files: FileServer, name: str, reason: str) -> None:
    files.asked.clear()
    since = time.monotonic()
    fetching = remote(files.url, max_body_mb=1, upload_timeout_s=0.5 if name == "slow" else 20)
    message = refusal(fetching, f"{files.url}good.wav", f"{files.url}{name}")
    assert message.startswith("place.1: ")
    assert reason in message
    assert time.monotonic() - since < 10
    assert sum("moved" in path or "gone" in path for path, _ in files.asked) <= 1
    assert len(fetch(fetching, f"{files.url}good.wav")) == 1  # and what was held is free again


def test_a_server_that_is_not_there_is_no_fault_of_ours() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        assert "ConnectError" in refusal(remote(url), url)


def test_a_name_is_resolved_once_and_its_address_is_asked_under_the_name(
    files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second look at the name would find another address."""
    looked_up: list[str] = []

    def resolved(host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        looked_up.append(host)
        address = "127.0.0.1" if len(looked_up) == 1 else "192.0.2.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    prefix = f"http://clips.example.org:{files.server_port}/clips/"
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    assert "not public" in refusal(remote(prefix), f"{prefix}good.wav")
    looked_up.clear()
    files.asked.clear()
    monkeypatch.setattr("azeros.serving.allowlist._is_public", lambda address: address == "127.0.0.1")
    assert fetch(remote(prefix), f"{prefix}good.wav") == {f"{prefix}good.wav": CLIP}
    assert looked_up[0] == "clips.example.org"
    assert "clips.example.org" not in looked_up[1:]
    assert files.asked == [("/clips/good.wav", f"clips.example.org:{files.server_port}")]


def certificate(name: str) -> bytes:
    """A key and a certificate of a server, signed by itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(hours=1))
    signed = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + signed.sign(key, SHA256()).public_bytes(Encoding.PEM)


def test_a_certificate_has_to_be_for_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = tmp_path / "server.pem"
    pem.write_bytes(certificate("clips.example.org"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.setattr("azeros.serving.allowlist._is_public", lambda _: True)
    with file_server(tls) as files:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: here)
        right, other = (
            f"https://{name}.example.org:{files.server_port}/clips/" for name in ("clips", "other")
        )
        assert fetch(remote(right), f"{right}good.wav") == {f"{right}good.wav": CLIP}
        assert "ConnectError" in refusal(remote(other), f"{other}good.wav")


def test_many_are_fetched_side_by_side_up_to_a_number(files: FileServer) -> None:
    urls = [f"{files.url}{number}.wav" for number in range(MAX_URLS + 1)]
    assert len(fetch(remote(files.url), *urls[:-1])) == MAX_URLS
    assert f"place.{MAX_URLS}: more than" in refusal(remote(files.url), *urls)


def test_all_requests_together_have_a_bound(files: FileServer) -> None:
    with pytest.raises(OverloadError):
        fetch(remote(files.url, max_bodies_mb=1), f"{files.url}endless")


def test_a_refused_request_is_freed_at_once(files: FileServer) -> None:
    class Body:
        """What a request brought."""

    async def ask() -> None:
        body = Body()
        bodies.append(weakref.ref(body))
        async with remote(files.url).fetched({f"{files.url}{name}": name for name in ("gone", "slow")}):
            raise AssertionError

    async def asked() -> None:
        with suppress(RequestError):
            await ask()
        await asyncio.sleep(0.1)  # what was still being fetched is given up
        assert bodies[0]() is None

    bodies: list[weakref.ref[Body]] = []
    gc.disable()
    try:
        asyncio.run(asked())
    finally:
        gc.enable()
