"""Errors in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from azeros.errors import AzerosError, OverloadError

_STATUS = {"model_not_found": 404, "not_found": 404, "invalid_api_key": 401, "too_large": 413, "timeout": 408}


def error_body(error: Exception) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error in OpenAI's shape; of a fault of ours the client learns no more than that."""
    code = getattr(error, "code", None)
    if isinstance(error, OverloadError):
        status, kind, message, code = 429, "overloaded_error", str(error), "overloaded"
    elif isinstance(error, AzerosError):
        status, kind, message = _STATUS.get(code or "", 400), "invalid_request_error", str(error)
    else:
        status, kind, message = 500, "server_error", "the service failed; its log says how"
    body = {"message": message, "type": kind, "param": getattr(error, "param", None), "code": code}
    return status, {"error": body}
