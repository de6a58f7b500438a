"""JSON Schema fragments of arrays and data frames, and back: types from fragments, and made-up values."""

from collections.abc import Mapping, Sequence
from typing import Any

from argosy_serving.schema.frames import EXTENSION_TYPES, Column
from argosy_serving.schema.problems import InvalidSchemaFile, describe

_NUMBERS = {"float": "float32", "double": "float64"}
# Columns of these cannot hold a missing value.
WHOLE = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_INTEGERS = WHOLE[1:]


def column_of(fragment: Any, at: str) -> str:
    """The pandas type of a column's or an array item's fragment."""
    if not isinstance(fragment, Mapping):
        raise InvalidSchemaFile(at, f"a JSON Schema object is needed, not {describe(fragment)}")
    kind, form = fragment.get("type"), str(fragment.get("format", ""))
    if kind == "number":
        return _NUMBERS.get(form, "float64")
    if kind == "integer":
        return form if form in _INTEGERS else "int64"
    if kind == "boolean":
        return "bool"
    if kind == "string" and form in ("date-time", "timedelta"):
        return "datetime64[ns]" if form == "date-time" else "timedelta64[ns]"
    return "object"


def array_of(fragment: Any, at: str) -> "tuple[Any, int]":
    """The numpy type (a list of pairs for structured ones) and the number of dimensions of nested `items`."""
    rank = 0
    while isinstance(fragment, Mapping) and fragment.get("type") == "array":
        rank += 1
        fragment = fragment.get("items", {})
    if not isinstance(fragment, Mapping) or rank > 32:
        raise InvalidSchemaFile(at, "nested arrays of numbers are needed, or `dtype` and `shape` beside `swagger`")
    if properties := fragment.get("properties"):
        return [[name, _plain(column_of(inner, at), inner)] for name, inner in properties.items()], rank
    return _plain(column_of(fragment, at), fragment), rank


def _plain(dtype: str, fragment: Mapping[str, Any]) -> str:
    return "str" if dtype == "object" and fragment.get("type") == "string" else dtype


def leaf_fragment(dtype: str) -> dict[str, Any]:
    """The fragment of one number, string or date of that type."""
    if dtype.startswith("float"):
        return {"type": "number", "format": "double" if dtype == "float64" else "float"}
    if dtype in _INTEGERS:
        return {"type": "integer", "format": dtype}
    if dtype.startswith("datetime64"):
        return {"type": "string", "format": "date-time"}
    if dtype.startswith("timedelta64"):
        return {"type": "string", "format": "timedelta"}
    if dtype in EXTENSION_TYPES:
        kind = EXTENSION_TYPES[dtype]
        return {"type": kind, "format": dtype.lower()} if kind == "integer" else {"type": kind}
    return {"bool": {"type": "boolean"}, "str": {"type": "string"}}.get(dtype, {})


def array_fragment(dtype: str, shape: "Sequence[int | None]", nullable: bool = False) -> dict[str, Any]:
    holds_null = nullable and dtype.startswith(("float", "datetime64", "timedelta64"))
    fragment = or_null(leaf_fragment(dtype)) if holds_null else leaf_fragment(dtype)
    for size in reversed(shape):
        fragment = {"type": "array", "items": fragment}
        if size is not None:
            fragment |= {"minItems": size, "maxItems": size}
    return fragment


def nested(fragment: Mapping[str, Any], axes: int) -> dict[str, Any]:
    """Arrays of arrays, `axes` deep, of what `fragment` describes."""
    return dict(fragment) if axes == 0 else {"type": "array", "items": nested(fragment, axes - 1)}


def frame_fragment(columns: Sequence[Column]) -> dict[str, Any]:
    return rows_fragment(
        {
            str(column.name): {"enum": list(column.categories)} if column.categories else leaf_fragment(column.dtype)
            for column in columns
        }
    )


def frame_rules(fragment: Mapping[str, Any], columns: Sequence[Column], closed: bool) -> Mapping[str, Any]:
    """A frame's fragment that says of missing values and of further columns what the decoder does."""
    items = fragment.get("items")
    properties = items.get("properties") if isinstance(items, Mapping) else None
    if not isinstance(items, Mapping) or not isinstance(properties, Mapping):
        return fragment
    nullable = {str(column.name) for column in columns if column.nullable and column.dtype not in WHOLE}
    described = {name: or_null(inner) if name in nullable else inner for name, inner in properties.items()}
    kept = {key: value for key, value in items.items() if key != "additionalProperties"}
    rows = {**kept, "properties": described} | ({"additionalProperties": False} if closed else {})
    return {**fragment, "items": rows}


def or_null(fragment: Mapping[str, Any]) -> dict[str, Any]:
    """The same, or null."""
    made = dict(fragment)
    if isinstance(kind := made.get("type"), str) and kind != "null" and not made.get("nullable"):
        made["type"] = [kind, "null"]
    if "enum" in made and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    return made


def rows_fragment(properties: Mapping[str, Any]) -> dict[str, Any]:
    """An array of row objects; every column is required."""
    row = {"type": "object", "required": list(properties), "properties": dict(properties)}
    return {"type": "array", "items": row}


def made_up(fragment: Any) -> Any:
    """A small value that fits a fragment, for a sample request where no example was recorded."""
    if not isinstance(fragment, Mapping):
        return {}
    for keyword in ("example", "default", "const"):
        if keyword in fragment:
            return fragment[keyword]
    if choices := fragment.get("enum"):
        return choices[0]
    for keyword in ("anyOf", "allOf"):
        if fragment.get(keyword):
            return made_up(fragment[keyword][0])
    kinds = fragment.get("type", "object" if "properties" in fragment else "string")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind == "array":
        return [made_up(fragment.get("items", {}))] * max(1, int(fragment.get("minItems", 1)))
    if kind == "object":
        return {name: made_up(inner) for name, inner in fragment.get("properties", {}).items()}
    if kind in ("number", "integer"):
        low = fragment.get("minimum", fragment.get("exclusiveMinimum", 0))
        return (low + 1 if "exclusiveMinimum" in fragment else low) if not isinstance(low, bool) else 0
    if kind == "string":
        return _text(str(fragment.get("format", "")), int(fragment.get("minLength", 0)))
    return False if kind == "boolean" else None


def _text(form: str, length: int) -> str:
    known = {
        "byte": "", "binary": "", "date": "2024-01-01", "date-time": "2024-01-01T00:00:00Z", "time": "00:00:00",
        "timedelta": "1 days", "duration": "1 days", "decimal": "1.5",
    }  # fmt: skip
    return known.get(form, "text" if length <= 4 else "x" * length)
