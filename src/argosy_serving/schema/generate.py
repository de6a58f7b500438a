"""Schema files from sample values, with the call shape that scripts of 2017 use."""

import base64
import datetime
import decimal
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from argosy_serving.schema.arrays import ARRAY_TYPES
from argosy_serving.schema.frames import COLUMN_TYPES
from argosy_serving.schema.swagger import array_fragment, leaf_fragment, nested, rows_fragment

_EXAMPLE_ROWS = 3
_PLAIN_PARAMETERS = ("request", "request_headers")


class DataTypes:
    """The types of a sample, with the numbers of 2017."""

    STANDARD = 0
    NUMPY = 1
    SPARK = 2
    PANDAS = 3


class SampleDefinition:
    """A sample value and its type, one of `DataTypes`."""

    def __init__(self, input_type: int, sample: Any) -> None:
        self.type = input_type
        self.sample = sample


def generate_schema(
    run_func: Callable[..., Any],
    inputs: "Mapping[str, Any] | None" = None,
    outputs: "Mapping[str, Any] | None" = None,
    filepath: "str | Path | None" = None,
) -> dict[str, Any]:
    """The schema of `run_func` from one sample per parameter; written to `filepath` when given.

    A sample is a DataFrame, an ndarray, any JSON value, bytes, a date, or a SampleDefinition. Raises ValueError when
    the names or the number of inputs are not those of `run_func`, or a sample cannot be sent as JSON.
    """
    parameters = inspect.signature(run_func).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named if p.name not in _PLAIN_PARAMETERS]
    given = dict(inputs or {})
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in given:
            if name not in names:
                raise ValueError(f"run() has no parameter {name!r}; it has: {', '.join(names) or 'none'}.")
    missing = [p.name for p in named if p.name in names and p.default is p.empty and p.name not in given]
    if missing:
        raise ValueError(f"There is no sample for run()'s {', '.join(missing)}: pass one for each in `inputs`.")
    document = {
        "input": {name: _entry(name, sample) for name, sample in given.items()},
        "output": {name: _entry(name, sample) for name, sample in (outputs or {}).items()},
    }
    if filepath is not None:
        Path(filepath).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    return document


def _entry(name: str, sample: Any) -> dict[str, Any]:
    kind = getattr(sample, "type", None) if hasattr(sample, "sample") else None
    value = sample.sample if hasattr(sample, "sample") and kind is not None else sample
    # Looked up, not imported: a sample of theirs cannot exist before they are loaded.
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    try:
        if kind == DataTypes.SPARK:
            raise ValueError("Spark samples need a Spark runtime; use a pandas DataFrame")
        if kind == DataTypes.PANDAS or (kind is None and pandas is not None and isinstance(value, pandas.DataFrame)):
            return _frame_entry(value)
        if kind == DataTypes.NUMPY or (kind is None and numpy is not None and isinstance(value, numpy.ndarray)):
            return _array_entry(value)
        return {"type": "standard", "swagger": _infer(value), "example": _plain(value)}
    except ValueError as problem:
        raise ValueError(f"The sample of {name!r} cannot be used: {problem}.") from problem


def _array_entry(array: Any) -> dict[str, Any]:
    import numpy as np  # the sample is its array, so it is there

    array = np.asarray(array)
    if array.dtype.names:
        fields = [[name, _array_type(array.dtype[name])] for name in array.dtype.names]
        swagger = nested(rows_fragment({name: leaf_fragment(dtype) for name, dtype in fields}), array.ndim - 1)
        shape = [None, *array.shape[1:]]
        example = _plain(_objects(array[:_EXAMPLE_ROWS].tolist(), array.dtype.names))
        return {"type": "numpy", "dtype": fields, "shape": shape, "swagger": swagger, "example": example}
    dtype = _array_type(array.dtype)
    shape = [None if axis == 0 else size for axis, size in enumerate(array.shape)]
    first = array[:_EXAMPLE_ROWS] if array.ndim else array
    if dtype.startswith("datetime64"):
        first = np.datetime_as_string(first)
    if dtype.startswith("timedelta64"):
        first = first.astype("timedelta64[us]").astype(object)
    entry: dict[str, Any] = {"type": "numpy", "dtype": dtype, "shape": shape, "swagger": array_fragment(dtype, shape)}
    if dtype.startswith("float") and bool(np.isnan(array).any()):
        entry["nullable"] = True
    return entry | {"example": _plain(first.tolist())}


def _objects(value: Any, names: Sequence[str]) -> Any:
    """Nested lists of records as nested lists of objects."""
    if isinstance(value, list):
        return [_objects(item, names) for item in value]
    return dict(zip(names, value, strict=True))


def _array_type(dtype: Any) -> str:
    name = "str" if dtype.kind == "U" else dtype.newbyteorder("=").name
    if name not in ARRAY_TYPES:
        raise ValueError(f"arrays of {dtype} cannot be sent as JSON; use one of {', '.join(ARRAY_TYPES)}")
    return str(name)


def _frame_entry(frame: Any) -> dict[str, Any]:
    import pandas as pd  # the sample is its frame, so it is there

    columns, properties = [], {}
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        column, fragment = _column(pd, name, dtype, frame[name])
        columns.append(column)
        properties[str(name)] = fragment
    rows = frame.head(_EXAMPLE_ROWS).to_dict("records")
    example = [{str(key): _plain(_cell(pd, value)) for key, value in row.items()} for row in rows]
    return {"type": "pandas", "columns": columns, "swagger": rows_fragment(properties), "example": example}


def _column(pd: Any, name: Any, dtype: Any, values: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(name, (str, int)):
        name = name.item() if hasattr(name, "item") else str(name)
    column: dict[str, Any] = {"name": name, "dtype": str(dtype)}
    if isinstance(dtype, pd.DatetimeTZDtype):
        column |= {"dtype": f"datetime64[{dtype.unit}]", "timezone": str(dtype.tz)}
    if isinstance(dtype, pd.CategoricalDtype):
        column |= {"dtype": "category", "categories": _plain(dtype.categories.tolist())}
        return column, {"enum": column["categories"]}
    if column["dtype"].startswith("timedelta64"):
        column["dtype"] = "timedelta64[ns]"
    if column["dtype"] not in COLUMN_TYPES:
        raise ValueError(f"column {name!r} of {dtype} cannot be sent as JSON; use one of {', '.join(COLUMN_TYPES)}")
    fragment = leaf_fragment(column["dtype"])
    if column["dtype"] == "object":
        kinds = [_infer(cell) for cell in values if not _is_missing(cell)]
        fragment = kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else {}
    return column, fragment


def _cell(pd: Any, value: Any) -> Any:
    if _is_missing(value):
        return None
    if isinstance(value, pd.Timedelta):
        return str(value)
    return value.isoformat() if isinstance(value, pd.Timestamp) else value


def _is_missing(value: Any) -> bool:
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _infer(value: Any) -> dict[str, Any]:
    """The fragment of a plain value. Members of a sample object are typed, but neither required nor the only ones."""
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "format": "int64"}
    if isinstance(value, float):
        return {"type": "number", "format": "double"}
    if isinstance(value, str):
        return {"type": "string"}
    if isinstance(value, (bytes, bytearray)):
        return {"type": "string", "format": "byte"}
    if isinstance(value, datetime.datetime):
        return {"type": "string", "format": "date-time"}
    if isinstance(value, (datetime.date, datetime.time)):
        return {"type": "string", "format": "date" if isinstance(value, datetime.date) else "time"}
    if isinstance(value, datetime.timedelta):
        return {"type": "string", "format": "timedelta"}
    if isinstance(value, decimal.Decimal):
        return {"type": ["string", "number"], "format": "decimal"}
    if isinstance(value, (list, tuple)):
        kinds = [_infer(item) for item in value]
        same = bool(kinds) and all(kind == kinds[0] for kind in kinds)
        return {"type": "array", "items": kinds[0] if same else {}}
    if isinstance(value, Mapping):
        return {"type": "object", "properties": {str(key): _infer(item) for key, item in value.items()}}
    return {}


def _plain(value: Any) -> Any:
    """The JSON value of a sample; raises ValueError when JSON has none."""

    def other(item: Any) -> Any:
        if isinstance(item, (bytes, bytearray)):
            return base64.b64encode(item).decode()
        if hasattr(item, "tolist"):
            return item.tolist()
        if isinstance(item, (datetime.timedelta, decimal.Decimal)):
            return str(item)
        raise TypeError(f"{type(item).__name__} has no JSON form")

    try:
        return orjson.loads(orjson.dumps(value, default=other, option=orjson.OPT_SERIALIZE_NUMPY))
    except (TypeError, orjson.JSONEncodeError) as problem:
        raise ValueError(str(problem)) from None
