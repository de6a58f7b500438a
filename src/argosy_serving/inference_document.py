"""The paths of the Open Inference Protocol as openapi.json has them."""

from typing import Any

from argosy_serving import inference
from argosy_serving.schema import Schema

_TEXT: dict[str, Any] = {"type": "string"}
_PARAMETERS: dict[str, Any] = {"type": "object"}
_DATATYPE = {"type": "string", "enum": ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32",
                                        "INT64", "FP16", "FP32", "FP64", "BYTES"]}  # fmt: skip
_SHAPE: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
SCHEMAS: dict[str, Any] = {
    "InferenceError": {"type": "object", "required": ["error"], "properties": {"error": _TEXT, "code": _TEXT}},
    "ModelMetadata": {
        "type": "object",
        "required": ["name", "platform", "inputs", "outputs"],
        "properties": {
            "name": _TEXT,
            "versions": {"type": "array", "items": _TEXT},
            "platform": _TEXT,
            **{
                name: {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "datatype", "shape"],
                        "properties": {"name": _TEXT, "datatype": _DATATYPE, "shape": _SHAPE},
                    },
                }
                for name in ("inputs", "outputs")
            },
        },
    },
    "Tensor": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": _TEXT,
            "datatype": _DATATYPE,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "parameters": _PARAMETERS,
            "data": {"type": "array", "description": "Flat, or nested as the shape is."},
        },
    },
    "InferenceRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": _TEXT, "parameters": _PARAMETERS},
                },
            },
        },
    },
    "InferenceResponse": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
}
_FAILURE = {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}}
_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "Bytes of the JSON part, when binary tensors follow it.",
    "schema": {"type": "integer", "minimum": 0},
}


def paths(service: str, revision: int, schema: "Schema | None", errors: "dict[str, str]") -> dict[str, Any]:
    """`errors` are the descriptions of the statuses that scoring can have."""
    failures = {code: {"description": text, "content": _FAILURE} for code, text in errors.items()}
    live, ready = _flag("live"), _flag("ready")
    model, metadata = f"/v2/models/{service}", inference.metadata(schema, service, [str(revision)])
    made: dict[str, Any] = {
        "/v2/health/live": {"get": _get("ServerLive", "Says that the server runs.", live, {}, [])},
        "/v2/health/ready": {"get": _get("ServerReady", "Says that the model is ready.", ready, failures, [])},
        f"{model}/ready": {"get": _get("ModelReady", "Says that the model is ready.", ready, failures, [])},
        "/v2": {
            "get": _get("ServerMetadata", "Names the server and its extensions.", {"type": "object"}, failures, None)
        },
        model: {
            "get": _get(
                "ModelMetadata", "Names the model's tensors.",
                {"$ref": "#/components/schemas/ModelMetadata"}, failures, None, metadata,
            )
        },
    }  # fmt: skip
    if schema is not None:
        answer = {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceResponse"}},
                  "application/octet-stream": {}}  # fmt: skip
        made[f"{model}/infer"] = {
            "post": {
                "operationId": "ModelInfer",
                "summary": "Scores tensors, in JSON or as binary data behind it.",
                "parameters": [_LENGTH],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/InferenceRequest"}},
                        "application/octet-stream": {},
                    },
                },
                "responses": {"200": {"description": "The answer.", "content": answer}, **failures},
            }
        }
    return made


def _flag(name: str) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}}


def _get(
    operation: str,
    summary: str,
    answer: "dict[str, Any]",
    failures: "dict[str, Any]",
    security: Any,
    example: Any = None,
) -> dict[str, Any]:
    shown: dict[str, Any] = {"schema": answer} | ({"example": example} if example is not None else {})
    failing = {code: failures[code] for code in (("503",) if security == [] else ("401",)) if code in failures}
    made: dict[str, Any] = {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": {"description": "Yes.", "content": {"application/json": shown}}, **failing},
    }
    return made if security is None else {**made, "security": security}
