"""Inputs of type `pandas`: JSON, or columns that have a type already, to a DataFrame with fixed columns and types.

Rows may name their columns in any order. Other orients of pandas are known by their form: `{"columns": [..], "data":
[[..]]}` (split), and `{column: [..]}` or `{column: {row: ..}}` (columns). Extra columns are passed over unless the
schema says `"extra_columns": "refuse"`. `null` is a missing value in columns of floats, strings, objects and dates
(NaN, None, NaT), unless the column says `"nullable": false`; in columns of whole numbers and booleans it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from argosy_serving.schema.arrays import DATES, NUMERIC, compile_array
from argosy_serving.schema.problems import InvalidInput, describe, step
from argosy_serving.schema.standard import Decode
from argosy_serving.schema.typed import TypedDecode, compile_typed

# numpy's types, and pandas' own that hold missing values.
EXTENSION_TYPES = {
    "boolean": "boolean", "string": "string", "Float32": "number", "Float64": "number",
    **{f"{sign}Int{bits}": "integer" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}  # fmt: skip
COLUMN_TYPES = (*NUMERIC, *DATES, "timedelta64[ns]", "object", "str", "category", *EXTENSION_TYPES)


@dataclass(frozen=True)
class Column:
    """`name` as pandas has it (a string or a number), `dtype` one of COLUMN_TYPES, `zone` of a date column or ''.

    `cell` checks one value of an object or extension column; `categories` are those of a category column.
    """

    name: Any
    dtype: str
    nullable: bool
    cell: Decode
    categories: tuple[Any, ...] = ()
    zone: str = ""


Values = Callable[[list[Any], str, bool], Any]
# A column by its name: JSON cells, or an array that has a type already. None: it was not sent.
Cells = Callable[[str], Any]


class Frames:
    """Builds the DataFrames of one input. `closed` refuses columns that the schema does not have."""

    def __init__(self, columns: Sequence[Column], closed: bool) -> None:
        # Imported here: pandas is only there when the model's own environment has it.
        import pandas as pd

        self._columns, self._closed = columns, closed
        self._frame = pd.DataFrame
        self._index = pd.Index([column.name for column in columns])
        self._names = [str(column.name) for column in columns]
        self._pick = itemgetter(*self._names) if len(columns) > 1 else None
        self._makers = [_values(pd, column) for column in columns]
        self._typed = [_typed_values(pd, column) for column in columns]
        kinds = {column.dtype for column in columns}
        only = kinds.pop() if len(kinds) == 1 and self._pick is not None else ""
        self._whole = compile_array(only, [None, len(columns)], nullable=False) if only in NUMERIC else None

    def decode(self, value: Any, at: str, careful: bool) -> Any:
        """A DataFrame from JSON in any orient. Raises InvalidInput."""
        if type(value) is dict:
            return self._decode_object(value, at, careful)
        rows = self._rows(value, at)
        try:
            if self._whole is not None and not careful:
                assert self._pick is not None
                try:
                    return self._frame(self._whole(list(map(self._pick, rows)), at, False), columns=self._index)
                except InvalidInput:
                    pass  # column by column below: its pointers name the column
            return self._build(
                lambda name: [row[name] for row in rows], lambda name, row: step(f"{at}{row}", name), careful
            )
        except KeyError:
            raise self._missing(rows, at) from None

    def from_columns(self, columns: Mapping[str, Any], at: str) -> Any:
        """A DataFrame from arrays or lists of JSON cells by column name, all of one length. Raises InvalidInput."""
        self._check_names(columns, at)
        return self._build(columns.__getitem__, lambda name, row: f"{step(at, name)}{row}", True)

    def _decode_object(self, value: dict[str, Any], at: str, careful: bool) -> Any:
        split = type(value.get("columns")) is list and type(value.get("data")) is list
        if split and value.keys() <= {"columns", "data", "index"} and not value.keys() >= set(self._names):
            return self._decode_split(value["columns"], value["data"], at, careful)
        self._check_names(value, at)
        columns: dict[str, list[Any]] = {}
        keys: Any = None
        for name in self._names:
            cells = value[name]
            if type(cells) is dict:
                # Rows are matched by their key, whatever order a column has them in.
                keys = list(cells) if keys is None else keys
                if type(keys) is list and (len(keys) != len(cells) or any(key not in cells for key in keys)):
                    raise InvalidInput(step(at, name), "the same row keys as the other columns", describe(cells))
                cells = [cells[key] for key in keys] if type(keys) is list else None
            elif type(cells) is list:
                keys = len(cells) if keys is None else keys
                cells = cells if keys == len(cells) else None
            else:
                raise InvalidInput(step(at, name), "the column's values", describe(cells))
            if cells is None:
                raise InvalidInput(step(at, name), "as many values as the other columns", describe(value[name]))
            columns[name] = cells
        return self._build(columns.__getitem__, lambda name, row: f"{step(at, name)}{row}", careful)

    def _decode_split(self, names: list[Any], data: list[Any], at: str, careful: bool) -> Any:
        places = {str(name): place for place, name in enumerate(names)}
        if len(places) != len(names):
            raise InvalidInput(step(at, "columns"), "names that differ", describe(names))
        self._check_names(places, step(at, "columns"))
        for number, row in enumerate(data):
            if type(row) is not list or len(row) != len(names):
                raise InvalidInput(f"{at}/data/{number}", f"an array of {len(names)}", describe(row))

        def cells(name: str) -> list[Any]:
            place = places[name]
            return [row[place] for row in data]

        return self._build(cells, lambda name, row: f"{at}/data{row}/{places[name]}", careful)

    def _build(self, cells_of: Cells, locate: Callable[[str, str], str], careful: bool) -> Any:
        made = {}
        for column, name, make, adopt in zip(self._columns, self._names, self._makers, self._typed, strict=True):
            cells = cells_of(name)
            try:
                made[column.name] = make(cells, "", careful) if type(cells) is list else adopt(cells, "")
            except InvalidInput as problem:
                raise InvalidInput(locate(name, problem.pointer), problem.expected, problem.received) from None
        return self._frame(made, columns=self._index)

    def _rows(self, value: Any, at: str) -> list[dict[str, Any]]:
        if type(value) is not list:
            raise InvalidInput(at, "an array of row objects", describe(value))
        for number, row in enumerate(value):
            if type(row) is not dict:
                raise InvalidInput(f"{at}/{number}", f"an object with {', '.join(self._names)}", describe(row))
            if self._closed and len(row) > len(self._names):
                self._refuse_extra(row, f"{at}/{number}")
        return value

    def _missing(self, rows: list[dict[str, Any]], at: str) -> InvalidInput:
        for number, row in enumerate(rows):
            for name in self._names:
                if name not in row:
                    return InvalidInput(step(f"{at}/{number}", name), "this column", "nothing")
        raise AssertionError("a column was missing a moment ago")

    def _check_names(self, given: Collection[str], at: str) -> None:
        for name in self._names:
            if name not in given:
                raise InvalidInput(step(at, name), "this column", "nothing")
        if self._closed and len(given) > len(self._names):
            self._refuse_extra(given, at)

    def _refuse_extra(self, given: Collection[str], at: str) -> None:
        extra = next(name for name in given if name not in self._names)
        raise InvalidInput(step(at, extra), "no such column", "an unknown column")


def _typed_values(pd: Any, column: Column) -> TypedDecode:
    """A function (array, pointer) -> what DataFrame takes as that column; for arrays that have a type already."""
    dtype, make = column.dtype, _values(pd, column)
    if dtype in NUMERIC:
        return compile_typed(dtype, [None], column.nullable and dtype.startswith("float"))
    if dtype == "timedelta64[ns]" or (dtype in DATES and not column.zone):
        return compile_typed(dtype, [None], column.nullable)
    if dtype in DATES:
        moments = compile_typed(dtype, [None], column.nullable)
        return lambda array, at: pd.DatetimeIndex(moments(array, at)).tz_localize("UTC").tz_convert(column.zone)
    return lambda array, at: make(array.tolist(), at, True)


def _values(pd: Any, column: Column) -> Values:
    """A function (cells, pointer, careful) -> what DataFrame takes as that column. Pointers are `/<row>`."""
    dtype = column.dtype
    if dtype in NUMERIC:
        return compile_array(dtype, [None], nullable=column.nullable and dtype.startswith("float"))
    if dtype in DATES:
        dates = compile_array(dtype, [None], column.nullable)
        if not column.zone:
            return dates
        return lambda cells, at, careful: (
            pd.DatetimeIndex(dates(cells, at, careful)).tz_localize("UTC").tz_convert(column.zone)
        )

    def each(cells: list[Any], at: str, _: bool) -> list[Any]:
        return [
            None if cell is None and column.nullable else column.cell(cell, f"{at}/{row}")
            for row, cell in enumerate(cells)
        ]

    if dtype == "timedelta64[ns]":
        return lambda cells, at, careful: pd.to_timedelta(
            [_timedelta(pd, cell, f"{at}/{row}") for row, cell in enumerate(each(cells, at, careful))]
        )
    if dtype == "category":
        return lambda cells, at, careful: pd.Categorical(each(cells, at, careful), categories=list(column.categories))
    if dtype == "str" and int(pd.__version__.split(".")[0]) < 3:
        dtype = "object"  # before pandas 3, its str would turn None into text
    return lambda cells, at, careful: pd.Series(each(cells, at, careful), dtype=dtype)


def _timedelta(pd: Any, cell: Any, at: str) -> Any:
    try:
        return pd.NaT if cell is None else pd.Timedelta(cell)
    except (ValueError, OverflowError):
        raise InvalidInput(at, "a duration such as '5 days' or '01:30:00'", describe(cell)) from None
