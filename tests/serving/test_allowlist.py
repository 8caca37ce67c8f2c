"""Nothing that is not below an allowed URL passes for it, and no inner address for a public one."""

import asyncio
import socket
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azeros.serving.allowlist import addresses, allowed, read_prefixes

PREFIXES = read_prefixes("https://clips.example.org/calls/, http://10.0.0.7:8080/")


def resolve_to(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    def resolved(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


def addresses_of(url: str) -> list[str]:
    return asyncio.run(addresses(httpx.URL(url)))


@pytest.mark.parametrize(
    "url",
    [
        "https://clips.example.org/calls/a.wav",
        "https://CLIPS.example.org:443/calls/2026/a%20b.wav?signature=../x%2F",
        "http://10.0.0.7:8080/a.wav",
    ],
)
def test_what_is_below_an_allowed_url_is_allowed(url: str) -> None:
    assert allowed(url, PREFIXES) == httpx.URL(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "calls/a.wav",
        "file:///etc/passwd",
        "data:audio/wav;base64,AAAA",
        "ftp://clips.example.org/calls/a.wav",
        "http://clips.example.org/calls/a.wav",
        "https://clips.example.org:8443/calls/a.wav",
        "https://clips.example.org/callsign/a.wav",
        "https://clips.example.org/CALLS/a.wav",
        "https://clips.example.org./calls/a.wav",
        "https://clips.example.org.evil.org/calls/a.wav",
        "https://evil.org/https://clips.example.org/calls/a.wav",
        "https://clips.example.org@evil.org/calls/a.wav",
        "https://me:secret@clips.example.org/calls/a.wav",
        "https://evil.org\\@clips.example.org/calls/a.wav",
        "https://clips.example.org/calls/../secret",
        "https://clips.example.org/calls/%2e%2E/secret",
        "https://clips.example.org/calls/.%2e;x/secret",
        "https://clips.example.org/calls/..%2fsecret",
        "https://clips.example.org/calls/..\\secret",
        "https://clips.example.org/calls/%5c..%5csecret",
        "https://clips.example.org/calls/%252e%252e/secret",
        "https://clips.example.org/calls/%c0%ae%c0%ae/secret",
        "https://clips.example.org/calls/%u002e./secret",
        "https://clips.example.org/calls/..",
        "http://10.0.0.7/a.wav",
        "http://0xa000007:8080/a.wav",
        "http://[::ffff:10.0.0.7]:8080/a.wav",
    ],
)
def test_what_is_not_below_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        allowed(url, PREFIXES)


@given(st.text(max_size=30) | st.text("./\\%2eEfF5cC;@:#?a", max_size=20))
def test_any_text_is_below_it_or_refused(text: str) -> None:
    """As a browser's rules resolve it, decoded twice."""
    try:
        url = allowed(f"https://clips.example.org/calls/{text}", PREFIXES)
    except ValueError:
        return
    path = url.raw_path.decode().partition("?")[0]
    twice = httpx.URL(scheme="https", host="x", path=httpx.URL(scheme="https", host="x", path=path).path)
    assert httpx.URL(str(twice)).path.replace("\\", "/").startswith("/calls/")
    assert url.raw_host == b"clips.example.org"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "clips.example.org/",
        "ftp://a/",
        "https:///a/",
        "https://a/b",
        "https://a/?b/",
        "https://me@a/",
        "https://a/,",
    ],
)
def test_what_is_no_list_of_folders_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"URL|slash"):
        read_prefixes(text)


@pytest.mark.parametrize(
    "inner",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1%lo",
        "fd00:ec2::254",
        "ff0e::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_a_name_for_an_inner_address_is_refused(monkeypatch: pytest.MonkeyPatch, inner: str) -> None:
    resolve_to(monkeypatch, "93.184.215.14", inner)
    with pytest.raises(ValueError, match="not public"):
        addresses_of("https://clips.example.org/calls/a.wav")


def test_public_addresses_are_kept_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    public = ["2606:2800:21f::1", "93.184.215.14", "64:ff9b::808:808"]
    resolve_to(monkeypatch, *public)
    assert addresses_of("https://clips.example.org/") == public


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_an_inner_address_that_the_operator_named_is_taken(host: str) -> None:
    assert {*addresses_of(f"http://{host}/")} <= {"127.0.0.1", "::1"}
