"""What is served under /v1, as an OpenAPI document."""

from __future__ import annotations

from typing import Any

from azeros.serving.protocol import ChatRequest

_SCHEMAS = "#/components/schemas/"


def document() -> dict[str, Any]:
    """The document, with JSON schemas of what is taken and what is answered."""
    request = ChatRequest.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    schemas = request.pop("$defs") | {
        "ChatRequest": request,
        "Completion": _COMPLETION,
        "Error": _ERROR,
        "Model": _MODEL,
    }
    models = {
        "type": "object",
        "required": ["data"],
        "properties": {"data": {"type": "array", "items": _ref("Model")}},
    }
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    completion = _json(_ref("Completion")) | {"text/event-stream": {}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "azeros", "version": "1"},
        "servers": [{"url": "/v1"}],
        "paths": {
            "/chat/completions": {
                "post": {
                    "requestBody": {"required": True, "content": _json(_ref("ChatRequest"))},
                    "responses": _responses("The answer; in pieces with `stream`", completion),
                }
            },
            "/models": {"get": {"responses": _responses("The one model", _json(models))}},
            "/models/{name}": {
                "get": {
                    "parameters": [name],
                    "responses": _responses("The model and its limits", _json(_ref("Model"))),
                }
            },
        },
        "components": {"schemas": schemas},
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"{_SCHEMAS}{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _responses(description: str, content: dict[str, Any]) -> dict[str, Any]:
    wrong = {"description": "What is wrong", "content": _json(_ref("Error"))}
    return {"200": {"description": description, "content": content}, "4XX": wrong, "5XX": wrong}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_STRING, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
_STRING_OR_NULL = {"type": ["string", "null"]}
_ERROR = _object(error=_object(message=_STRING, type=_STRING, param=_STRING_OR_NULL, code=_STRING_OR_NULL))
_MODEL = _object(
    id=_STRING, object={"const": "model"}, created=_COUNT, owned_by=_STRING, limits={"type": "object"}
)
_CHOICE = _object(
    index=_COUNT,
    message=_object(role={"const": "assistant"}, content=_STRING_OR_NULL),
    finish_reason={"enum": ["stop", "length"]},
)
_COMPLETION = _object(
    id=_STRING,
    object={"const": "chat.completion"},
    created=_COUNT,
    model=_STRING,
    choices={"type": "array", "items": _CHOICE, "minItems": 1, "maxItems": 1},
    usage=_object(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT),
)
