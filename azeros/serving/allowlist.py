"""Which URLs may be fetched, and which addresses may stand behind them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

_UNICAST, _NAT64 = IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96")
# What one server takes for a slash or a dot, and another does not.
_AMBIGUOUS = re.compile(
    r"\\|%(?:2f|5c|25|00|c[01]|(?![\da-f]{2}))|/(?:\.|%2e){1,2}(?:[/;#]|$)", re.IGNORECASE
)


def read_prefixes(text: str) -> tuple[httpx.URL, ...]:
    """The URLs of a list with commas, each of which stands for all that begin with it.

    Raises:
        ValueError: one is no URL, or does not end with the slash of its path.
    """
    return tuple(map(_prefix, map(str.strip, text.split(","))))


def _prefix(text: str) -> httpx.URL:
    try:
        url = _read(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is {error}") from None
    if not text.endswith("/") or "?" in text or "#" in text:
        raise ValueError(f"{text!r} does not end with the slash of its path: give https://host/folder/")
    return url


def allowed(text: str, prefixes: Sequence[httpx.URL]) -> httpx.URL:
    """The URL in `text`.

    Raises:
        ValueError: it is none, or does not begin like one of `prefixes`.
    """
    url = _read(text)
    for own in prefixes:
        same = (url.scheme, url.raw_host, url.port) == (own.scheme, own.raw_host, own.port)
        if same and url.raw_path.startswith(own.raw_path):
            return url
    raise ValueError("not among the URLs that AZEROS_AUDIO_URLS allows")


async def addresses(url: httpx.URL) -> list[str]:
    """Where to connect to for `url`.

    Raises:
        ValueError: the host has no address; or one that is not public, and is neither named by it nor localhost.
    """
    host = url.raw_host.decode()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise ValueError("its host has no address") from None
    texts = [str(own[4][0]) for own in found]
    if host not in ("localhost", *texts) and not all(map(_is_public, texts)):
        raise ValueError("its host has an address that is not public")
    return texts


def _read(text: str) -> httpx.URL:
    """A URL that every server reads alike."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ValueError("no URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("no absolute http or https URL")
    if url.userinfo or _AMBIGUOUS.search(text.partition("?")[0]):
        raise ValueError("a URL with a user, '..' or encoded slashes: give it without")
    return url


def _is_public(text: str) -> bool:
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped or address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFFFFFF)
        elif address not in _UNICAST or address.sixtofour or address.teredo:
            return False
    return address.is_global and not address.is_multicast
