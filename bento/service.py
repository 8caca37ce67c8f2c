"""The packaged model behind HTTP: `bentoml serve`, then

curl -F audio=@speech.wav -F prompt='what did the speaker say?' http://localhost:3000/generate

or any client of OpenAI's with base_url="http://localhost:3000/v1", or a browser at http://localhost:3000/ui (docs/serving.md).

The process that supervises the service imports this file too: what needs torch is imported in the service.
"""

import os
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")

import bentoml
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from starlette.applications import Starlette

from azeros.errors import AzerosError, RequestError
from azeros.serving.heap import keep_heap_dense
from azeros.serving.settings import ServingSettings
from bento.door import Door
from bento.form import Question
from bento.page import page_route

# The one keeps something of each request until its time limit has passed, the other counts by whatever path is asked
# for: their memory grows with the requests. Door has a time limit and counts.
_GROWING: tuple[object, ...] = (TimeoutMiddleware, RunnerTrafficMetricsMiddleware)


class _Bounded(bentoml.Service):  # type: ignore[misc]
    """BentoML's service without what grows."""

    def to_asgi(self, is_main: bool = True) -> Starlette:
        app: Starlette = super().to_asgi(is_main)
        app.user_middleware = [own for own in app.user_middleware if own.cls not in _GROWING]
        return app


_openai = Starlette()
_ui = Starlette(routes=[page_route()])


@bentoml.service(name="azeros", service_class=_Bounded)
@bentoml.asgi_app(_openai, path="/v1")
@bentoml.asgi_app(_ui, path="/ui")
class Azeros:
    """Answers questions about recordings with the model in AZEROS_MODEL (models/azeros)."""

    def __init__(self) -> None:
        from azeros.serving.service import ChatService
        from bento.metrics import Metrics
        from bento.routes import openai_routes

        keep_heap_dense()
        self._service = ChatService(ServingSettings.from_environment(os.environ), Metrics())
        _openai.router.routes[:] = openai_routes(self._service)

    @bentoml.api(input_spec=Question)  # type: ignore[untyped-decorator]
    async def generate(
        self, audio: Path, ctx: bentoml.Context, prompt: str = "", max_new_tokens: int | None = None
    ) -> str:
        """The answer to `prompt` about the recording `audio`; an empty prompt lets it speak for itself."""
        from azeros.serving.sampling import Sampling
        from bento.routes import refusal, unless_gone

        try:
            self._service.check_room()
            if max_new_tokens is not None and max_new_tokens < 1:
                raise RequestError(f"max_new_tokens is {max_new_tokens}: give at least 1")
            sampling = Sampling() if max_new_tokens is None else Sampling(max_new_tokens)
            conversation = await self._service.read_file(audio, prompt, sampling)
            text, _ = await unless_gone(ctx.request.receive, self._service.whole_answer(conversation))
        except AzerosError as error:
            answer = refusal(error)
            ctx.response.status_code = answer.status_code
            return answer  # type: ignore[return-value] # BentoML sends it as it is
        return text

    def __is_alive__(self) -> bool:
        return self._service.is_alive

    __is_ready__ = __is_alive__

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Answer what was asked before the process ends."""
        self._service.close()


Azeros.add_asgi_middleware(Door)  # type: ignore[attr-defined]
