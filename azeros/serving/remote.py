"""Audio by its URL: fetched from where the operator allows it, and from nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager

import httpx

from azeros.errors import OverloadError, RequestError
from azeros.serving.allowlist import addresses, allowed
from azeros.serving.settings import MB, ServingSettings

MAX_URLS = 64
"""Of one request; those that come twice count once."""
_SIDE_BY_SIDE = 8
_CONNECT_TIMEOUT_S = 5


class Remote:
    """Fetches audio without blocking anything; for one event loop at a time."""

    def __init__(self, settings: ServingSettings) -> None:
        self.max_urls = MAX_URLS if settings.audio_urls else 0
        self._settings = settings
        self._held_bytes = 0
        self._tls = httpx.create_ssl_context()

    @asynccontextmanager
    async def fetched(self, places: Mapping[str, str]) -> AsyncGenerator[Mapping[str, bytearray]]:
        """What is found at each URL of `places`, which says where in the request it stands.

        Raises:
            RequestError: a URL is not allowed, or nothing can be fetched from it.
            OverloadError: too much is being fetched.
        """
        if places and not self.max_urls:
            reason = "audio by URL is off: send input_audio, or have AZEROS_AUDIO_URLS allow it"
            raise _refusal(next(iter(places.values())), reason)
        if len(places) > MAX_URLS:
            raise _refusal(list(places.values())[MAX_URLS], f"more than {MAX_URLS} URLs, ask about less")
        contents = {text: bytearray() for text in places}
        turns = asyncio.Semaphore(_SIDE_BY_SIDE)
        tasks = [asyncio.ensure_future(self._fetch(*own, contents, turns)) for own in places.items()]
        try:
            await asyncio.gather(*tasks)
            yield contents
        finally:
            while (
                tasks
            ):  # they know the error, which knows this frame: no circle, which would keep the request
                tasks.pop().cancel()
            self._held_bytes -= sum(map(len, contents.values()))

    async def _fetch(
        self, text: str, place: str, contents: Mapping[str, bytearray], turns: asyncio.Semaphore
    ) -> None:
        timeout_s = self._settings.upload_timeout_s
        try:
            async with asyncio.timeout(timeout_s), turns, self._response(text) as response:
                async for chunk in response.aiter_raw():
                    contents[text].extend(chunk)
                    self._held_bytes += len(chunk)
                    self._check_size(contents)
        except TimeoutError:
            reason = f"not fetched within {timeout_s:g} s"
        except httpx.HTTPError as error:  # its message may quote what the server sent
            reason = f"cannot be fetched: {type(error).__name__}"
        except ValueError as error:
            reason = str(error)
        else:
            return
        raise _refusal(place, reason)

    def _check_size(self, contents: Mapping[str, bytearray]) -> None:
        if sum(map(len, contents.values())) > self._settings.max_body_mb * MB:
            raise ValueError(f"audio of more than {self._settings.max_body_mb} MB, ask about less")
        if self._held_bytes > self._settings.max_bodies_mb * MB:
            raise OverloadError("too much is being fetched at the same time: ask again a little later")

    @asynccontextmanager
    async def _response(self, text: str) -> AsyncGenerator[httpx.Response]:
        """What the first address of the host that takes a connection answers."""
        url = allowed(text, self._settings.audio_urls)
        timeout = httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S)
        headers = {"host": url.netloc.decode(), "accept-encoding": "identity"}
        extensions = {"sni_hostname": url.raw_host.decode()}
        found = await addresses(url)
        # By address, since the name could stand for another one by now; without a proxy, which would look it up itself.
        async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=timeout) as client:
            for address in found:
                there = url.copy_with(host=address)
                request = client.build_request("GET", there, headers=headers, extensions=extensions)
                try:
                    response = await client.send(request, stream=True)
                    break
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if address == found[-1]:
                        raise
            async with aclosing(response):
                if response.status_code != 200:
                    followed = ": redirects are not followed" if 300 <= response.status_code < 400 else ""
                    raise ValueError(f"its server answered {response.status_code}{followed}")
                yield response


def _refusal(place: str, reason: str) -> RequestError:
    return RequestError(f"{place}: {reason}", "invalid_audio", place)
