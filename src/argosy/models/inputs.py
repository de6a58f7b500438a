"""Inputs as artefacts tell them: the `input` part of a schema file, made without numpy or pandas.

An input has an `example` only where one can be made that the model surely takes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from argosy_serving.schema import Field, InvalidSchemaFile, parse_schema
from argosy_serving.schema.swagger import array_fragment, leaf_fragment, made_up, rows_fragment

# What the one input of a model is called when its file has no name for it.
DATA = "data"
_MOST_NAMES = 2000
_LONGEST_NAME = 200

Inputs = dict[str, Any]


def array(dtype: str, shape: Sequence[int | None]) -> dict[str, Any]:
    """A numpy input. Its first axis is the batch; an example is made when no other axis is free."""
    fragment = array_fragment(dtype, shape)
    entry: dict[str, Any] = {"type": "numpy", "dtype": dtype, "shape": list(shape), "swagger": fragment}
    small = all(size is not None and size <= 10_000 for size in shape[1:])
    return entry | ({"example": made_up(fragment)} if small else {})


def frame(columns: Sequence[Mapping[str, Any]], properties: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A pandas input. `columns` are those of a schema file; `properties` are fragments of columns of objects."""
    described = {str(c["name"]): leaf_fragment(c["dtype"]) for c in columns} | dict(properties or {})
    example = [{name: made_up(fragment) for name, fragment in described.items()}]
    return {
        "type": "pandas",
        "columns": [dict(c) for c in columns],
        "swagger": rows_fragment(described),
        "example": example,
    }


def features(names: Sequence[Any] | None, count: int | None) -> Inputs:
    """Of a model of numbers: columns when their names are known, else an array of `count` columns (None: any)."""
    if names and all(_is_name(name) for name in names) and len(set(names)) == len(names) <= _MOST_NAMES:
        return {DATA: frame([{"name": name, "dtype": "float64"} for name in names])}
    usable = isinstance(count, int) and not isinstance(count, bool) and 0 < count < 10_000_000
    return {DATA: array("float64", [None, count if usable else None])}


def texts() -> Inputs:
    """Of a model that takes strings."""
    fragment = {"type": "array", "items": {"type": "string"}}
    return {DATA: {"type": "standard", "swagger": fragment, "example": ["some text"]}}


def usable(inputs: Inputs | None) -> Inputs | None:
    """The inputs themselves when a schema file may have them: what a file says is checked, not trusted."""
    if not inputs:
        return None
    try:
        fields: Mapping[str, Field] = parse_schema({"input": inputs}).inputs
    except (InvalidSchemaFile, RecursionError):
        return None
    return inputs if fields and all(_is_name(name) for name in fields) else None


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()
