"""The signature of an MLflow model as the inputs of a schema file, with the example that was saved beside it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from argosy.models.inputs import DATA, Inputs, array, frame

# Beside the data of a request, as MLflow's own server takes them.
PARAMS = "params"
_EXAMPLE_ROWS = 3
_PLAIN: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"}, "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"}, "float": {"type": "number"}, "double": {"type": "number"},
    "string": {"type": "string"}, "datetime": {"type": "string"},
}  # fmt: skip
# mlflow.types.DataType -> the type of a pandas column
_COLUMNS = {
    "boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64", "string": "str",
    "datetime": "datetime64[ns]",
}  # fmt: skip


def signature_inputs(signature: Any, example: str | None = None) -> Inputs | None:
    """`signature` is that of the MLmodel file, `example` the text of input_example.json. None when there is none, or
    its types have no place in a schema."""
    fields = _fields(signature, "inputs")
    if not fields:
        return None
    if any(field.get("type") == "tensor" for field in fields):
        found = _tensors(fields)
    elif all(isinstance(field.get("name"), str) for field in fields):
        found = {DATA: _with_example(_frame(fields), example)}
    else:
        return None
    params = _fields(signature, PARAMS)
    return {**found, PARAMS: _params(params)} if found and params and PARAMS not in found else found


def _fields(signature: Any, part: str) -> list[dict[str, Any]]:
    """The entries of a part of the signature, which is JSON in a string; none where it holds anything else."""
    given = signature.get(part) if isinstance(signature, Mapping) else None
    try:
        fields = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        return []
    return fields if isinstance(fields, list) and all(isinstance(field, dict) for field in fields) else []


def _params(fields: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What MLflow fills in from their defaults; like its server, it passes over those that it does not know."""
    properties, defaults = {}, {}
    for field in fields:
        name, default = str(field.get("name")), field.get("default")
        fragment = dict(_PLAIN.get(str(field.get("type") or field.get("dtype")), {}))
        if field.get("shape"):
            fragment = {"type": "array", "items": fragment}
        properties[name] = {**fragment, "nullable": True} if default is None and fragment else fragment
        defaults[name] = default
    entry = {"type": "standard", "required": False, "swagger": {"type": "object", "properties": properties}}
    try:
        json.dumps(defaults, allow_nan=False)
    except ValueError:
        return entry
    return {**entry, "example": defaults}


def _tensors(fields: Sequence[dict[str, Any]]) -> Inputs | None:
    found: Inputs = {}
    for field in fields:
        spec = field.get("tensor-spec")
        if not isinstance(spec, dict) or not isinstance(spec.get("shape"), list):
            return None
        sizes = [None if size == -1 else size for size in spec["shape"]]
        if not all(size is None or (isinstance(size, int) and 0 <= size < 1 << 31) for size in sizes):
            return None
        dtype = {"object": "str"}.get(str(spec.get("dtype")), str(spec.get("dtype")))
        found[str(field.get("name") or DATA)] = array(dtype, sizes)
    return found if len(found) == len(fields) else None


def _frame(fields: Sequence[dict[str, Any]]) -> dict[str, Any]:
    columns: list[dict[str, Any]] = []
    properties: dict[str, Any] = {}
    for field in fields:
        name, kind = field["name"], str(field.get("type"))
        columns.append({"name": name, "dtype": _COLUMNS.get(kind, "object")})
        if kind == "string":
            properties[name] = {"type": "string"}
        elif kind not in _COLUMNS:
            # Arrays, objects and maps: MLflow itself checks them; bytes come as base64.
            properties[name] = {"type": "string", "format": "byte"} if kind == "binary" else {}
    entry = frame(columns, properties)
    if any(fragment == {} for fragment in properties.values()):
        entry.pop("example")  # what was made up for these would not fit
    return entry


def _with_example(entry: dict[str, Any], example: str | None) -> dict[str, Any]:
    """The saved example when it is a frame of the very columns; MLflow writes `split` without an index."""
    try:
        saved = json.loads(example) if example else None
    except (ValueError, RecursionError):
        return entry
    if isinstance(saved, dict) and isinstance(saved.get("inputs"), dict):
        saved = saved["inputs"]  # as it is saved with parameters
    names = [column["name"] for column in entry["columns"]]
    if not isinstance(saved, dict) or saved.get("columns") != names or not isinstance(saved.get("data"), list):
        return entry
    rows = saved["data"][:_EXAMPLE_ROWS]
    if not rows or not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return entry
    return entry | {"example": [dict(zip(names, row, strict=True)) for row in rows]}
