"""Errors in OpenAI's shape."""

from __future__ import annotations

import json
from typing import Any

from azeros.errors import AzerosError, OverloadError, RequestError

_STATUS = {"model_not_found": 404, "not_found": 404, "invalid_api_key": 401, "too_large": 413, "timeout": 408}
_CODES = {404: "not_found", 504: "timeout"}


def error_body(error: Exception) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error in OpenAI's shape; of a fault of ours the client learns no more than that."""
    if isinstance(error, RequestError):
        status = _STATUS.get(error.code or "", 400)
        return status, _shaped(status, str(error), error.code, error.param)
    if isinstance(error, OverloadError):
        return 429, _shaped(429, str(error), "overloaded")
    if isinstance(error, AzerosError):
        return 400, _shaped(400, str(error))
    return 500, _shaped(500, "the service failed; its log says how")


def foreign_error_body(status: int, text: str) -> dict[str, Any]:
    """What another library answered with an error status, in OpenAI's shape; as it is if it has it already."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    # BentoML sends its own in a list of one.
    content = found[0] if isinstance(found, list) and found else found
    error = content.get("error", text) if isinstance(content, dict) else text
    if isinstance(error, dict):
        return dict(content)
    faults = content.get("detail") if isinstance(content, dict) else None
    if faults:  # pydantic's
        param = ".".join(map(str, faults[0]["loc"]))
        return _shaped(status, f"{param}: {faults[0]['msg']}", "invalid_value", param)
    return _shaped(status, str(error), _CODES.get(status))


def _shaped(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    kind = (
        "overloaded_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    )
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
