"""The signature of an MLflow model as the inputs of a schema file, with the example that was saved beside it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from argosy.models.inputs import DATA, Inputs, array, frame

_EXAMPLE_ROWS = 3
# mlflow.types.DataType -> the type of a pandas column
_COLUMNS = {
    "boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64", "string": "str",
    "datetime": "datetime64[ns]",
}  # fmt: skip


def signature_inputs(signature: Any, example: str | None = None) -> Inputs | None:
    """`signature` is that of the MLmodel file, `example` the text of input_example.json. None when there is none, or
    its types have no place in a schema."""
    given = signature.get("inputs") if isinstance(signature, Mapping) else None
    try:
        fields = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, list) or not fields or not all(isinstance(field, dict) for field in fields):
        return None
    if any(field.get("type") == "tensor" for field in fields):
        return _tensors(fields)
    if not all(isinstance(field.get("name"), str) for field in fields):
        return None
    return {DATA: _with_example(_frame(fields), example)}


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
    names = [column["name"] for column in entry["columns"]]
    if not isinstance(saved, dict) or saved.get("columns") != names or not isinstance(saved.get("data"), list):
        return entry
    rows = saved["data"][:_EXAMPLE_ROWS]
    if not rows or not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return entry
    return entry | {"example": [dict(zip(names, row, strict=True)) for row in rows]}
