"""How a service is set up: environment variables, since it runs where no params.yaml is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from azeros.errors import ParamsError
from azeros.serving.allowlist import read_prefixes

_PREFIX = "AZEROS_"
MB = 2**20


class ServingSettings(BaseModel):
    """Each field `x` is the environment variable `AZEROS_X`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    model: str | None = None
    """Folder or hub id; without one, the packaged model of this repository."""
    model_name: str = Field(default="azeros", min_length=1)
    """What requests call the model, whichever release it is."""
    revision: str | None = None
    """Of a hub id."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the language model. Below float32, an answer depends a little on what it is computed with."""
    api_key: str | None = Field(default=None, min_length=1)
    """What clients must show as `Authorization: Bearer`; without one, everybody may ask."""
    max_batch_size: int = Field(default=32, ge=1)
    """Answers that are written together."""
    max_queue_size: int = Field(default=128, ge=1)
    """Requests that wait for a place among them; more are refused as overload."""
    audio_cache_mb: int = Field(default=256, ge=0)
    """What projected audio is kept for later turns."""
    max_body_mb: int = Field(default=32, ge=1)
    """Of one request; ten minutes of 16 kHz wav in base64 are 25."""
    max_bodies_mb: int = Field(default=512, ge=1)
    """Of all requests that are being answered; more are refused as overload."""
    upload_timeout_s: float = Field(default=60, gt=0)
    """Within which a body must have arrived, and then the audio that it names by URL."""
    audio_urls: Annotated[tuple[httpx.URL, ...], BeforeValidator(read_prefixes)] = ()
    """What audio may be fetched: URLs that begin like one of these, which commas separate."""
    talker: Literal["espeak", "cosyvoice"] = "espeak"
    """What speaks answers to those who ask for audio."""
    talker_model: str = "iic/CosyVoice2-0.5B"
    """Of CosyVoice2: a folder, or its name at ModelScope."""
    talker_voices: str = "voices"
    """Folder of wav files; each is a voice of CosyVoice2, and its name the voice's."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ServingSettings:
        """The settings in the variables.

        Raises:
            ParamsError: the value of one is wrong.
        """
        variables = {name: f"{_PREFIX}{name.upper()}" for name in cls.model_fields}
        given = {name: environment[own] for name, own in variables.items() if own in environment}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise ParamsError(f"{variables[str(first['loc'][0])]}: {first['msg']}") from None
