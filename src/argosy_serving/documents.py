"""What the service says about itself: Swagger 2.0, OpenAPI 3.1 and the page that shows them, typed from the schema.

Names, operation ids and paths (with the service's prefix in them) are those callers of 2017 know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from argosy_serving import inference_document
from argosy_serving.npy import NPY
from argosy_serving.schema import Field, Schema, sample_from_schema
from argosy_serving.schema.standard import INT_RANGES

_ERRORS = {
    "400": "The body does not fit the schema; details name the field.",
    "401": "The key is missing or wrong.",
    "406": "The answer has none of the forms that Accept names.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "415": "The content type or encoding cannot be read.",
    "429": "Overload: queue_full, queue_wait or deadline. Retry-After says when to come again.",
    "500": "The scoring script raised an error.",
    "503": "No replica is ready.",
    "504": "Scoring took too long.",
}
_ERROR_RESPONSE: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "details": {"type": "object"}},
        }
    },
}
_VALUES = ("example", "examples", "default", "enum", "const", "required")  # keywords whose values are no schemas
_HEALTHY = {"type": "string", "example": "Healthy"}


@dataclass(frozen=True)
class About:
    """The service as its documents name it. `prefix` is '' when a replica is asked directly."""

    service: str
    revision: int
    models: str
    prefix: str
    scheme: str
    auth: bool
    answers: "tuple[str, ...]" = ()  # content types beside JSON that there are for answers


def _description(about: About) -> str:
    return f"Scores requests with {about.models or 'its script'} (revision {about.revision})."


def _object(fields: Mapping[str, Field]) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "type": "object",
        "properties": {name: _with_ranges(each.swagger) for name, each in fields.items()},
    }
    if fields:
        shape["additionalProperties"] = False
    if required := [name for name, each in fields.items() if each.required]:
        shape["required"] = required
    return shape


def _with_ranges(fragment: Any) -> Any:
    """A copy in which whole numbers of a format have its range: callers are held to it, and few tools know `uint8`."""
    if isinstance(fragment, list):
        return [_with_ranges(item) for item in fragment]
    if not isinstance(fragment, Mapping):
        return fragment
    made = {key: value if key in _VALUES else _with_ranges(value) for key, value in fragment.items()}
    limits = INT_RANGES.get(str(made.get("format")))
    kinds = made.get("type")
    if limits is not None and (kinds == "integer" or (isinstance(kinds, list) and "integer" in kinds)):
        made = {"minimum": limits[0], "maximum": limits[1], **made}
    return made


def _input(schema: "Schema | None") -> dict[str, Any]:
    if schema is None:
        return {}
    return _object(schema.inputs) | {"example": sample_from_schema(schema)}


def _output(schema: "Schema | None") -> dict[str, Any]:
    """A script answers with whatever it returns; the schema describes it by one output, or by several members."""
    if schema is None or not schema.outputs:
        return {}
    if len(schema.outputs) == 1:
        only = next(iter(schema.outputs.values()))
        return dict(_with_ranges(only.swagger)) | ({"example": only.example} if only.has_example else {})
    return _object(schema.outputs)


def swagger(about: About, schema: "Schema | None") -> bytes:
    """swagger.json, version 2.0."""
    health = {
        "operationId": "ServiceHealthCheck",
        "summary": "Says Healthy when the service answers.",
        "responses": {"200": {"description": "Healthy", "schema": _HEALTHY}},
        "security": [],
    }
    body = {"name": "serviceInputPayload", "in": "body", "required": True,
            "schema": {"$ref": "#/definitions/ServiceInput"}}  # fmt: skip
    error = {"$ref": "#/definitions/ErrorResponse"}
    score = {
        "operationId": "RunMLService",
        "summary": "Scores one request.",
        "consumes": ["application/json"],
        "parameters": [body],
        "responses": {
            "200": {"description": "The answer.", "schema": {"$ref": "#/definitions/ServiceOutput"}},
            **{code: {"description": text, "schema": error} for code, text in _ERRORS.items()},
            "default": {"description": "Any other error.", "schema": error},
        },
    }
    document: dict[str, Any] = {
        "swagger": "2.0",
        "info": {"title": about.service, "description": _description(about), "version": str(about.revision)},
        "schemes": [about.scheme],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "paths": {f"{about.prefix}/": {"get": health}, f"{about.prefix}/score": {"post": score}},
        "definitions": {
            "ServiceInput": _for_swagger(_input(schema)),
            "ServiceOutput": _for_swagger(_output(schema)),
            "ErrorResponse": _ERROR_RESPONSE,
        },
    }
    if about.auth:
        document["securityDefinitions"] = {
            "key": {"type": "apiKey", "name": "Authorization", "in": "header",
                    "description": "`Bearer <key>`, with the primary or the secondary key."}
        }  # fmt: skip
        document["security"] = [{"key": []}]
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def openapi(about: About, schema: "Schema | None") -> bytes:
    """openapi.json, version 3.1."""
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    retry = {"Retry-After": {"description": "Seconds until it is worth trying again.", "schema": {"type": "integer"}}}
    responses: dict[str, Any] = {
        "200": {
            "description": "The answer.",
            "headers": {"x-request-id": {"schema": {"type": "string"}, "description": "Names the request in the log."}},
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ServiceOutput"}},
                **{kind: {} for kind in about.answers},
            },
        }
    }
    for code, text in _ERRORS.items():
        responses[code] = {"description": text, "content": error}
        if code in ("429", "503"):
            responses[code]["headers"] = retry
    body = {"required": True, "content": _contents(about, schema)}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": about.service, "description": _description(about), "version": str(about.revision)},
        "servers": [{"url": about.prefix or "/"}],
        "paths": {
            "/": {
                "get": {
                    "operationId": "ServiceHealthCheck",
                    "summary": "Says Healthy when the service answers.",
                    "security": [],
                    "responses": {
                        "200": {
                            "description": "Healthy",
                            "content": {"application/json": {"schema": _for_openapi(_HEALTHY)}},
                        }
                    },
                }
            },
            "/score": {
                "post": {
                    "operationId": "RunMLService",
                    "summary": "Scores one request.",
                    "requestBody": body,
                    "responses": responses,
                }
            },
            **inference_document.paths(about.service, about.revision, schema, _ERRORS),
        },
        "components": {
            "schemas": {
                "ServiceInput": _for_openapi(_input(schema)),
                "ServiceOutput": _for_openapi(_output(schema)),
                "ErrorResponse": _ERROR_RESPONSE,
                **inference_document.SCHEMAS,
            }
        },
    }
    if about.auth:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _contents(about: About, schema: "Schema | None") -> dict[str, Any]:
    """The forms that a body may have, as far as the schema gives them a sense."""
    made: dict[str, Any] = {"application/json": {"schema": {"$ref": "#/components/schemas/ServiceInput"}}}
    if schema is None or not schema.inputs:
        return made
    only = schema.only_input
    if any(each.is_bytes for each in schema.inputs.values()):
        form = _for_openapi(_object(schema.inputs))
        for name, each in schema.inputs.items():
            if each.is_bytes:
                form["properties"][name] = {"contentMediaType": "application/octet-stream"}
        others = {name: {"contentType": "application/json"} for name, e in schema.inputs.items() if not e.is_bytes}
        made["multipart/form-data"] = {"schema": form} | ({"encoding": others} if others else {})
    if only is not None and only.is_bytes:
        made["application/octet-stream"] = {}
    for kind in about.answers:
        if kind != NPY or (only is not None and only.type == "numpy"):
            made[kind] = {}
    return made


def _for_swagger(fragment: Any) -> Any:
    """JSON Schema as Swagger 2.0 knows it: one type at a time, no const, no null."""
    if isinstance(fragment, list):
        return [_for_swagger(item) for item in fragment]
    if not isinstance(fragment, dict):
        return fragment
    out: dict[str, Any] = {}
    for key, value in fragment.items():
        if key in ("example", "default", "enum", "required"):
            out[key] = value
        elif key == "const":
            out["enum"] = [value]
        elif key == "type" and isinstance(value, list):
            kinds = [kind for kind in value if kind != "null"]
            if len(kinds) == 1:
                out["type"] = kinds[0]
            if "null" in value:
                out["x-nullable"] = True
        elif key == "type" and value == "null":
            out["x-nullable"] = True
        elif key in ("anyOf", "examples", "$schema", "$id", "$comment", "contentEncoding", "contentMediaType"):
            continue
        elif key == "nullable":
            out["x-nullable"] = value
        elif key in ("exclusiveMinimum", "exclusiveMaximum") and not isinstance(value, bool):
            out[key.replace("exclusiveM", "m")], out[key] = value, True
        elif key == "properties":
            out[key] = {name: _for_swagger(inner) for name, inner in value.items()}
        else:
            out[key] = _for_swagger(value)
    return out


def _for_openapi(fragment: Any) -> Any:
    """JSON Schema 2020-12: `example` becomes `examples`, flags of older drafts become what they meant."""
    if isinstance(fragment, list):
        return [_for_openapi(item) for item in fragment]
    if not isinstance(fragment, dict):
        return fragment
    out: dict[str, Any] = {}
    for key, value in fragment.items():
        if key == "example":
            out["examples"] = [value]
        elif key in ("examples", "default", "enum", "required", "const"):
            out[key] = value
        elif key in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):
            bound = fragment.get(key.replace("exclusiveM", "m"))
            if value and bound is not None:
                out[key] = bound
        elif key == "nullable":
            continue
        elif key == "properties":
            out[key] = {name: _for_openapi(inner) for name, inner in value.items()}
        else:
            out[key] = _for_openapi(value)
    if fragment.get("nullable") and isinstance(fragment.get("type"), str):
        out["type"] = [fragment["type"], "null"]
    return out
