"""The JSON Schema of what may be sent for an input, whatever its type: array, frame or plain value."""

from collections.abc import Mapping
from typing import Any

from argosy_serving.schema.parse import TYPES
from argosy_serving.schema.swagger import array_fragment, array_of, column_of, leaf_fragment, nested

_KEYWORDS_OF_DOCUMENTS = ("example", "examples", "title", "description", "default", "deprecated", "externalDocs")


def entry_schema(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Of one entry of a schema file that parse_schema has accepted. Annotations are left out."""
    kind = entry.get("type", "standard")
    legacy = "internal" in entry or isinstance(kind, int)
    kind = TYPES[kind] if isinstance(kind, int) else kind
    fragment = entry.get("swagger") or {}
    if kind == "numpy":
        return _array(entry, fragment)
    if kind == "pandas":
        return _frame(entry, fragment)
    whole: dict[str, Any] = _bare(fragment, legacy)
    return whole


def _bare(fragment: Any, legacy: bool = False, root: bool = True) -> Any:
    """Without annotations. A file of 2017 says "anything" with a bare object below the root."""
    if not isinstance(fragment, Mapping):
        return {} if fragment is True else fragment
    bare = {key: value for key, value in fragment.items() if key not in _KEYWORDS_OF_DOCUMENTS}
    if legacy and not root and bare == {"type": "object"}:
        return {}
    for key in ("items", "additionalProperties"):
        if isinstance(bare.get(key), Mapping):
            bare[key] = _bare(bare[key], legacy, False)
    if isinstance(bare.get("properties"), Mapping):
        bare["properties"] = {name: _bare(inner, legacy, False) for name, inner in bare["properties"].items()}
    return bare


def _array(entry: Mapping[str, Any], fragment: Mapping[str, Any]) -> dict[str, Any]:
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if dtype is None or shape is None:
        found, rank = array_of(fragment, "")
        dtype = found if dtype is None else dtype
        shape = [None] * rank if shape is None else shape
    if isinstance(dtype, list):
        properties = {name: leaf_fragment(kind) for name, kind in dtype}
        rows = {"type": "array", "items": {"type": "object", "required": list(properties), "properties": properties}}
        return nested(rows, len(shape) - 1)
    whole = array_fragment(dtype, shape)
    if entry.get("nullable"):
        leaf = whole
        while "items" in leaf:
            leaf = leaf["items"]
        leaf["nullable"] = True
    return whole


def _frame(entry: Mapping[str, Any], fragment: Mapping[str, Any]) -> dict[str, Any]:
    items = fragment.get("items") or {}
    described = items.get("properties") or {}
    columns = entry.get("columns") or [{"name": name} for name in described]
    properties = {str(column["name"]): _column(column, described) for column in columns}
    row: dict[str, Any] = {"type": "object", "required": list(properties), "properties": properties}
    if items.get("additionalProperties") is False or entry.get("extra_columns") == "refuse":
        row["additionalProperties"] = False
    return {"type": "array", "items": row}


def _column(column: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    name = str(column["name"])
    dtype = column.get("dtype") or column_of(described.get(name, {}), "")
    if dtype == "category":
        fragment: dict[str, Any] = {"enum": list(column.get("categories", ()))}
    elif dtype == "object":
        fragment = dict(_bare(described.get(name, {}), legacy=True, root=False))
    else:
        fragment = leaf_fragment(dtype)
    # As frames.py decodes: whole numbers and booleans of numpy have no missing value.
    if not dtype.startswith(("int", "uint", "bool")) and column.get("nullable", True) is not False:
        fragment = {**fragment, "nullable": True}
    return fragment
