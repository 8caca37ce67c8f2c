"""The form that POST /generate takes. BentoML's own reading of it would fetch a text in place of the file, as an address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import BadInput
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request


class Question(bentoml.IODescriptor):  # type: ignore[misc]
    """A recording, and what is asked about it."""

    audio: Path
    prompt: str = ""
    max_new_tokens: int | None = None

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Question:
        """The question in a request.

        Raises:
            BadInput: it is no form, or one without a file.
        """
        try:
            form = await request.form(max_files=1, max_fields=8)
            audio, prompt, limit = form.get("audio"), form.get("prompt", ""), form.get("max_new_tokens")
            asked = _value(prompt) if isinstance(_value(prompt), str) else prompt
            str(asked).encode()  # half of a surrogate pair is no text
        except (HTTPException, UnicodeError) as error:
            raise BadInput(f"no form can be read: {getattr(error, 'detail', error)}") from error
        if not isinstance(audio, UploadFile):
            raise BadInput("audio: send a file, as multipart/form-data")
        audio.filename = None  # whose length could be more than a name may have
        return cls(audio=audio, prompt=asked, max_new_tokens=_value(limit))


def _value(field: Any) -> Any:
    """What BentoML's clients send as JSON, and others as it is."""
    try:
        return json.loads(field)
    except (ValueError, TypeError, RecursionError):
        return field
