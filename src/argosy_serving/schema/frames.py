"""Inputs of type `pandas`: a JSON array of row objects to a DataFrame with fixed columns, order and types.

Rows may name their columns in any order. Extra columns are passed over unless the schema's `swagger` says
`additionalProperties: false` for its items. `null` is a missing value in columns of floats, strings, objects and dates
(NaN, None, NaT), unless the column says `"nullable": false`; in columns of whole numbers and booleans it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from argosy_serving.schema.arrays import DATES, NUMERIC, compile_array
from argosy_serving.schema.problems import InvalidInput, describe, step
from argosy_serving.schema.standard import Decode

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


def compile_frame(columns: Sequence[Column], closed: bool) -> Callable[[Any, str, bool], Any]:
    """A function (value, pointer, careful) -> DataFrame; `closed` refuses unknown columns."""
    # Imported here: pandas is only there when the model's own environment has it.
    import pandas as pd

    names = [str(column.name) for column in columns]
    index = pd.Index([column.name for column in columns])
    kinds = {column.dtype for column in columns}
    frame = pd.DataFrame
    pick = itemgetter(*names) if len(names) > 1 else None
    known = set(names)

    def rows_of(value: Any, at: str) -> list[dict[str, Any]]:
        if type(value) is not list:
            raise InvalidInput(at, "an array of row objects", describe(value))
        for number, row in enumerate(value):
            if type(row) is not dict:
                raise InvalidInput(f"{at}/{number}", f"an object with {', '.join(names)}", describe(row))
            if closed and len(row) > len(known):
                extra = next(name for name in row if name not in known)
                raise InvalidInput(step(f"{at}/{number}", extra), "no such column", "an unknown column")
        return value

    def missing(rows: list[dict[str, Any]], at: str) -> InvalidInput:
        for number, row in enumerate(rows):
            for name in names:
                if name not in row:
                    return InvalidInput(step(f"{at}/{number}", name), "this column", "nothing")
        raise AssertionError("a column was missing a moment ago")

    if len(kinds) == 1 and (only := kinds.pop()) in NUMERIC and pick is not None:
        whole = compile_array(only, [None, len(names)], nullable=False)
        makers = [_values(pd, column) for column in columns]

        def decode_uniform(value: Any, at: str, careful: bool) -> Any:
            rows = rows_of(value, at)
            try:
                cells = list(map(pick, rows))
            except KeyError:
                raise missing(rows, at) from None
            if not careful:
                try:
                    return frame(whole(cells, at, False), columns=index)
                except InvalidInput:
                    pass  # column by column below: its pointers name the column
            return frame(_by_column(pd, columns, names, makers, rows, at, careful), columns=index)

        return decode_uniform

    makers = [_values(pd, column) for column in columns]

    def decode(value: Any, at: str, careful: bool) -> Any:
        rows = rows_of(value, at)
        try:
            return frame(_by_column(pd, columns, names, makers, rows, at, careful), columns=index)
        except KeyError:
            raise missing(rows, at) from None

    return decode


def _by_column(
    pd: Any,
    columns: Sequence[Column],
    names: Sequence[str],
    makers: Sequence[Values],
    rows: list[dict[str, Any]],
    at: str,
    careful: bool,
) -> dict[Any, Any]:
    made = {}
    for column, name, make in zip(columns, names, makers, strict=True):
        cells = [row[name] for row in rows]
        try:
            made[column.name] = make(cells, "", careful)
        except InvalidInput as problem:
            raise InvalidInput(step(f"{at}{problem.pointer}", name), problem.expected, problem.received) from None
    return made


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
