"""Any model behind an OpenAI-compatible endpoint: chat completions with the recording as an `input_audio` part."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from azeros.endpoint import ChatCompletion, Endpoint, RefusedError
from azeros.errors import AudioError, EndpointError
from azeros.evaluation.systems.base import Modality, Recording, Reply, Request

if TYPE_CHECKING:
    from azeros.params import EndpointSystem

_OF_THE_CALL = {"api_key_variable", "max_concurrency", "max_tries", "timeout_s"}


class ServedModel:
    """A model that is asked over HTTP, as many requests at once as `max_concurrency` says."""

    modality: Modality
    takes_instructions = True

    def __init__(self, name: str, settings: EndpointSystem) -> None:
        """`name` is that in benchmark.systems.

        Raises:
            EndpointError: the environment has no key.
        """
        self.modality = settings.modality
        self.batch_size = settings.max_concurrency
        self.choice_suffix = settings.choice_suffix
        self._settings = settings
        self._endpoint = Endpoint(settings, f"benchmark.systems.{name}")

    @property
    def identity(self) -> dict[str, Any]:
        """All that a request is made of, and where it goes."""
        temperature = self._settings.temperature
        decoding = {None: "the endpoint's own", 0.0: "greedy"}.get(temperature, f"temperature {temperature}")
        return {**self._settings.model_dump(mode="json", exclude=_OF_THE_CALL), "decoding": decoding}

    def respond(self, requests: Sequence[Request]) -> list[Reply]:
        """Replies; a request that the endpoint refuses has its reason, one for which it refuses all or stays away a failure."""
        return asyncio.run(self._respond(requests))

    async def _respond(self, requests: Sequence[Request]) -> list[Reply]:
        async with self._endpoint:
            return await asyncio.gather(*(self._reply(request) for request in requests))

    async def _reply(self, request: Request) -> Reply:
        try:
            completion = await self._endpoint.post(
                "chat/completions", self._body(request), ChatCompletion.read
            )
        except (AudioError, RefusedError) as error:
            return Reply(None, f"{type(error).__name__}: {error}")
        except EndpointError as error:
            return Reply(None, f"{type(error).__name__}: {error}", error)
        return Reply(completion.answers[0])

    def _body(self, request: Request) -> dict[str, Any]:
        settings = self._settings
        system = settings.system_message
        content = request.transcript if settings.modality == "text" else _parts(request)
        sampling = {} if settings.temperature is None else {"temperature": settings.temperature}
        return {
            "model": settings.model,
            "messages": [
                *([{"role": "system", "content": system}] if system else []),
                {"role": "user", "content": content},
            ],
            "max_tokens": settings.max_new_tokens,
            **sampling,
        }


def _parts(request: Request) -> list[dict[str, Any]]:
    """The recording, then the instruction if there is one."""
    audio = {"data": base64.b64encode(_wav(request.recording)).decode(), "format": "wav"}
    text = [{"type": "text", "text": request.instruction}] if request.instruction else []
    return [{"type": "input_audio", "input_audio": audio}, *text]


def _wav(recording: Recording) -> bytes:
    """16 kHz mono, 16 bits: what every such endpoint takes."""
    import soundfile

    from azeros.data.audio import SAMPLING_RATE

    stream = io.BytesIO()
    soundfile.write(stream, recording.load(), SAMPLING_RATE, format="WAV", subtype="PCM_16")
    return stream.getvalue()
