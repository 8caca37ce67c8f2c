"""Errors in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from azeros.errors import AzerosError, OverloadError, RequestError

_STATUS = {"model_not_found": 404, "not_found": 404, "invalid_api_key": 401, "too_large": 413, "timeout": 408}


def error_body(error: Exception) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error in OpenAI's shape; of a fault of ours the client learns no more than that."""
    status, kind, code, param = 400, "invalid_request_error", None, None
    message = str(error)
    if isinstance(error, RequestError):
        status, code, param = _STATUS.get(error.code or "", 400), error.code, error.param
    elif isinstance(error, OverloadError):
        status, kind, code = 429, "overloaded_error", "overloaded"
    elif not isinstance(error, AzerosError):
        status, kind, message = 500, "server_error", "the service failed; its log says how"
    return status, {"error": {"message": message, "type": kind, "param": param, "code": code}}
