"""Schemas from sample data: a request body as JSON, or rows as CSV. Needs neither numpy nor pandas."""

import csv
import datetime
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from argosy_serving.schema.generate import generate_schema
from argosy_serving.schema.swagger import array_fragment, leaf_fragment, rows_fragment

_EXAMPLE_ROWS = 3
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.]\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_MISSING = ("", "NA", "NaN", "nan", "null", "None")
_INT64 = 2**63


class NoSchema(ValueError):
    """The sample cannot become a schema; the message says why and what to do."""


def from_json(text: str, input_name: str) -> dict[str, Any]:
    """Of a request body: an object with an entry per input, or a bare value, which becomes the input `input_name`.

    A list of flat objects becomes a pandas input, nested lists of numbers a numpy one, everything else is standard.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise NoSchema(f"it is no JSON: {problem}") from None
    if isinstance(body, dict) and set(body) <= {"input", "output", "tolerance"} and isinstance(body.get("input"), dict):
        body = body["input"]
    named = body if isinstance(body, dict) else {input_name: body}
    if not named:
        raise NoSchema("it is an empty object: there is no input to infer")
    return {"input": {name: entry(value) for name, value in named.items()}, "output": {}}


def from_csv(text: str, input_name: str) -> dict[str, Any]:
    """One pandas input, its columns named by the first line and typed by all others."""
    reader = csv.reader(io.StringIO(text))
    try:
        names, rows = next(reader, []), [row for row in reader if row]
    except csv.Error as problem:
        raise NoSchema(f"line {reader.line_num}: {problem}") from None
    if not names or not rows:
        raise NoSchema("it needs a first line with the names of the columns and at least one row below")
    if len(set(names)) < len(names):
        raise NoSchema(f"two columns have the same name: {', '.join(n for n in names if names.count(n) > 1)[:100]}")
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise NoSchema(f"row {number} has {len(row)} cells, the first line {len(names)}")
    columns = {name: _typed([row[place] for row in rows]) for place, name in enumerate(names)}
    return {"input": {input_name: _frame(columns)}, "output": {}}


def entry(value: Any) -> dict[str, Any]:
    """The schema entry of one input's sample value."""
    if isinstance(value, list) and value:
        if all(
            isinstance(row, dict) and row and not any(isinstance(c, dict | list) for c in row.values()) for row in value
        ):
            names = list(dict.fromkeys(name for row in value for name in row))
            return _frame({name: _column([row.get(name) for row in value]) for name in names})
        shape = _shape(value)
        if shape is not None:
            kinds = {type(leaf) for leaf in _leaves(value)}
            dtype = "bool" if kinds == {bool} else "int64" if kinds == {int} else "float64"
            sizes = [None, *shape[1:]]
            return {
                "type": "numpy",
                "dtype": dtype,
                "shape": sizes,
                "swagger": array_fragment(dtype, sizes),
                "example": value[:_EXAMPLE_ROWS],
            }

    def run(sample: Any) -> None:
        """Only its one parameter's name matters."""

    made: dict[str, Any] = generate_schema(run, {"sample": value})["input"]["sample"]
    return made


def _frame(columns: Mapping[str, "tuple[str, list[Any]]"]) -> dict[str, Any]:
    fragments = {name: leaf_fragment(dtype) for name, (dtype, _) in columns.items()}
    count = min(_EXAMPLE_ROWS, *(len(values) for _, values in columns.values()))
    return {
        "type": "pandas",
        "columns": [{"name": name, "dtype": dtype} for name, (dtype, _) in columns.items()],
        "swagger": rows_fragment(fragments),
        "example": [{name: values[row] for name, (_, values) in columns.items()} for row in range(count)],
    }


def _column(values: list[Any]) -> tuple[str, list[Any]]:
    """Of JSON values; missing ones make whole numbers floats, as in pandas."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds == {bool} and len(present) == len(values):
        return "bool", values
    if kinds and kinds <= {int, float}:
        whole = kinds == {int} and len(present) == len(values) and all(-_INT64 <= v < _INT64 for v in present)
        return "int64" if whole else "float64", values
    if kinds == {str}:
        return "datetime64[ns]" if all(_is_date(value) for value in present) else "str", values
    return "object", values


def _typed(cells: list[str]) -> tuple[str, list[Any]]:
    """Of a CSV column's cells: the narrowest type that all of them fit."""
    given = [None if cell.strip() in _MISSING else cell.strip() for cell in cells]
    present = [cell for cell in given if cell is not None]
    makers: Sequence[tuple[Callable[[str], bool], Callable[[str], Any]]] = (
        (lambda cell: _WHOLE.fullmatch(cell) is not None, int),
        (_is_number, float),
        (lambda cell: cell.lower() in ("true", "false"), lambda cell: cell.lower() == "true"),
    )
    for fits, make in makers:
        if present and all(fits(cell) for cell in present):
            return _column([None if cell is None else make(cell) for cell in given])
    return _column([None if cell is None else cell for cell in given]) if present else ("float64", list(given))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        datetime.date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def _shape(value: Any) -> list[int] | None:
    """Sizes of nested lists of numbers or booleans, all of the same lengths; None for anything else."""
    if isinstance(value, bool | int | float):
        return []
    if not isinstance(value, list) or not value:
        return None
    inner = [_shape(item) for item in value]
    if any(shape is None or shape != inner[0] for shape in inner):
        return None
    return [len(value), *(inner[0] or [])]


def _leaves(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]
