"""The packaged model behind HTTP: `bentoml serve`, then

curl -F audio=@speech.wav -F prompt='what did the speaker say?' http://localhost:3000/generate
"""

import asyncio
import os
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")

import bentoml
from bentoml.exceptions import InvalidArgument

from azeros.errors import AudioError
from azeros.serving import chat

MODEL_VARIABLE = "AZEROS_MODEL"


@bentoml.service(name="azeros", traffic={"timeout": 120})
class Azeros:
    """Answers questions about recordings with the model in AZEROS_MODEL (models/azeros)."""

    def __init__(self) -> None:
        self.folder = Path(os.environ.get(MODEL_VARIABLE, "models/azeros"))
        chat.load(self.folder)
        self._one_at_a_time = asyncio.Lock()

    @bentoml.api  # type: ignore[untyped-decorator]
    async def generate(self, audio: Path, prompt: str = "", max_new_tokens: int = 200) -> str:
        """The answer to `prompt` about the recording `audio`; an empty prompt lets it speak for itself."""
        if max_new_tokens < 1:
            raise InvalidArgument(f"max_new_tokens is {max_new_tokens}: give at least 1")
        async with self._one_at_a_time:
            try:
                return await asyncio.to_thread(chat.answer, self.folder, audio, prompt, max_new_tokens)
            except AudioError as error:
                raise InvalidArgument(str(error)) from error
