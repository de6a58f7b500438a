"""Durations, decimals, missing values, structured arrays and the policy for further columns."""

import datetime
import decimal
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from argosy_serving.schema import (
    InvalidInput,
    InvalidSchemaFile,
    generate_schema,
    parse_schema,
    sample_from_schema,
)
from argosy_serving.schema.durations import duration_ns


def one(entry: dict[str, Any], value: Any) -> Any:
    return parse_schema({"input": {"x": entry}}).decode_body(orjson.dumps({"x": value}))["x"]


def refused(entry: dict[str, Any], value: Any) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as caught:
        one(entry, value)
    return caught.value.pointer, caught.value.received


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5 days", datetime.timedelta(days=5)),
        ("1 day", datetime.timedelta(days=1)),
        ("1 days 02:03:04.5", datetime.timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("01:30:00", datetime.timedelta(hours=1.5)),
        ("-00:01:00", datetime.timedelta(minutes=-1)),
        ("-1 days +23:00:00", datetime.timedelta(hours=-1)),
        ("-1 day, 23:00:00", datetime.timedelta(hours=-1)),
        ("-2 days", datetime.timedelta(days=-2)),
        ("P1DT2H", datetime.timedelta(days=1, hours=2)),
        ("PT0.000001S", datetime.timedelta(microseconds=1)),
        ("-P2W", datetime.timedelta(weeks=-2)),
    ],
)
def test_durations(text: str, expected: datetime.timedelta) -> None:
    assert one({"swagger": {"type": "string", "format": "timedelta"}}, text) == expected
    assert duration_ns(text, "") == expected // datetime.timedelta(microseconds=1) * 1000
    if not text.startswith("-P"):
        assert pd.Timedelta(text) == pd.Timedelta(expected)


def test_durations_in_arrays() -> None:
    made = one(
        {"type": "numpy", "dtype": "timedelta64[s]", "shape": [None], "nullable": True}, ["5 days", None, "PT1S"]
    )
    assert made.dtype == "timedelta64[s]" and np.isnat(made[1]) and made[2] == np.timedelta64(1, "s")
    for text in ("0.5 days", "5", "", "P", "PT", "P1Y", "00:00:00.5", "1:99:00", "x", 5):
        pointer, _ = refused({"type": "numpy", "dtype": "timedelta64[s]", "shape": [None]}, [text])
        assert pointer == "/x/0"
    sample = np.array([90, 0], "timedelta64[m]")
    document = generate_schema(lambda x: x, {"x": sample})
    assert parse_schema(document).decode({"x": document["input"]["x"]["example"]})["x"].tolist() == sample.tolist()


def test_decimals() -> None:
    entry = {"swagger": {"type": ["string", "number"], "format": "decimal"}}
    for given, expected in (("12.50", "12.50"), (12.5, "12.5"), (3, "3"), ("-1e-3", "-0.001"), ("+.5", "0.5")):
        made = one(entry, given)
        assert isinstance(made, decimal.Decimal) and made == decimal.Decimal(expected)
    for wrong in ("NaN", "Infinity", "1,5", "", "0x1", True):
        assert refused(entry, wrong)[0] == "/x"
    document = generate_schema(lambda x, y: x, {"x": decimal.Decimal("1.10"), "y": datetime.timedelta(hours=1)})
    made = parse_schema(document).decode({"x": document["input"]["x"]["example"], "y": "01:00:00"})
    assert made == {"x": decimal.Decimal("1.10"), "y": datetime.timedelta(hours=1)}
    frame = pd.DataFrame({"price": [decimal.Decimal("1.10"), None], "took": pd.to_timedelta(["5 days", None])})
    document = generate_schema(lambda x: x, {"x": frame})
    made = parse_schema(document).decode({"x": document["input"]["x"]["example"]})["x"]
    assert made["price"].tolist() == [decimal.Decimal("1.10"), None]
    assert made["took"].isna().tolist() == [False, True]


def test_further_columns() -> None:
    columns = [{"name": "a", "dtype": "float64"}, {"name": "b", "dtype": "float64"}]
    entry = {"type": "pandas", "columns": columns}
    full = {"a": 1, "b": 2, "c": 3}
    forms = ([full], {"columns": list(full), "data": [[1, 2, 3]]}, {name: [cell] for name, cell in full.items()})
    for value in forms:
        assert list(one({**entry, "extra_columns": "ignore"}, value)) == ["a", "b"]
        assert list(one(entry, value)) == ["a", "b"]
    pointers = [refused({**entry, "extra_columns": "refuse"}, value)[0] for value in forms]
    assert pointers == ["/x/0/c", "/x/columns/c", "/x/c"]
    fragment = parse_schema({"input": {"x": {**entry, "extra_columns": "refuse"}}}).inputs["x"].swagger
    assert fragment["items"]["additionalProperties"] is False
    with pytest.raises(InvalidSchemaFile) as caught:
        parse_schema({"input": {"x": {**entry, "extra_columns": "drop"}}})
    assert caught.value.pointer == "/input/x/extra_columns"


def test_orients_that_do_not_fit() -> None:
    entry = {"type": "pandas", "columns": [{"name": "a", "dtype": "int8"}, {"name": "b", "dtype": "int8"}]}
    for value, pointer in (
        ({"columns": ["a"], "data": [[1]]}, "/x/columns/b"),
        ({"columns": ["a", "b"], "data": [[1, 2], [1]]}, "/x/data/1"),
        ({"columns": ["b", "a"], "data": [[1, 2], [1, 300]]}, "/x/data/1/1"),
        ({"columns": ["a", "b", "a"], "data": []}, "/x/columns"),
        ({"a": [1, 2], "b": [1]}, "/x/b"),
        ({"a": {"0": 1}, "b": {"1": 1}}, "/x/b"),
        ({"a": [1], "b": {"0": 1}}, "/x/b"),
        ({"a": [1], "b": 1}, "/x/b"),
        ({"a": [1], "b": [1.5]}, "/x/b/0"),
        ({}, "/x/a"),
    ):
        assert refused(entry, value)[0] == pointer, value


def test_structured_arrays() -> None:
    entry = {"type": "numpy", "dtype": [["n", "int8"], ["s", "str"]], "shape": [2]}
    schema = parse_schema({"input": {"x": entry}})
    given = np.array([("a", 1), ("b", 2)], dtype=[("s", "U1"), ("n", "i8")])
    for made in (one(entry, [{"n": 1, "s": "a"}, {"s": "b", "n": 2}]), schema.decode_typed("x", given, "/x")):
        assert made.dtype.names == ("n", "s") and made.tolist() == [(1, "a"), (2, "b")]
    assert refused(entry, [{"n": 1, "s": "a"}, {"n": 300, "s": "b"}])[0] == "/x/1/n"
    assert refused(entry, [{"n": 1, "s": "a"}])[0] == "/x"
    for wrong in (given[:1], given[["n"]], np.zeros(2), np.array([("a", 300)] * 2, dtype=given.dtype)):
        with pytest.raises(InvalidInput):
            schema.decode_typed("x", wrong, "/x")


def test_structured_arrays_of_several_axes() -> None:
    entry = {"type": "numpy", "dtype": [["n", "int8"], ["s", "str"]], "shape": [None, 2]}
    schema = parse_schema({"input": {"x": entry}})
    rows = [[{"n": 1, "s": "a"}, {"s": "b", "n": 2}], [{"n": 3, "s": "c"}, {"n": 4, "s": "d"}]]
    given = np.array([[("a", 1), ("b", 2)], [("c", 3), ("d", 4)]], dtype=[("s", "U1"), ("n", "i8")])
    for made in (one(entry, rows), schema.decode_typed("x", given, "/x")):
        assert made.shape == (2, 2) and made.tolist() == [[(1, "a"), (2, "b")], [(3, "c"), (4, "d")]]
    assert one(entry, []).shape == (0, 2)
    wrong: list[tuple[Any, str]] = [
        ([[{"n": 1, "s": "a"}]], "/x/0"),
        ([rows[0], [rows[1][0], {"n": 300, "s": "a"}]], "/x/1/1/n"),
        ([rows[0], [rows[1][0], {"n": 3}]], "/x/1/1/s"),
        (rows[0], "/x/0"),
        ([[1, 2]], "/x/0/0"),
    ]
    for value, pointer in wrong:
        assert refused(entry, value)[0] == pointer
    with pytest.raises(InvalidInput):
        schema.decode_typed("x", given[:, :1], "/x")
    document = generate_schema(lambda x: x, {"x": given})
    assert document["input"]["x"]["shape"] == [None, 2]
    made = parse_schema(document).decode({"x": document["input"]["x"]["example"]})["x"]
    assert made.tolist() == given.tolist()
    assert document["input"]["x"]["swagger"]["items"]["items"]["type"] == "object"
    with pytest.raises(InvalidSchemaFile):
        parse_schema({"input": {"x": {**entry, "shape": []}}})


@pytest.mark.parametrize("categories", [[], ["a", None], ["a", "a"], "ab", [["a"]]])
def test_categories_that_are_none(categories: Any) -> None:
    with pytest.raises(InvalidSchemaFile) as caught:
        parse_schema(
            {
                "input": {
                    "x": {"type": "pandas", "columns": [{"name": "k", "dtype": "category", "categories": categories}]}
                }
            }
        )
    assert caught.value.pointer == "/input/x/columns/0/categories"


def test_inputs_that_may_be_left_out() -> None:
    number = {"swagger": {"type": "number"}}
    schema = parse_schema({"input": {"x": number, "k": {**number, "required": False}}})
    assert schema.decode({"x": 1, "k": 2}) == {"x": 1.0, "k": 2.0}
    assert schema.decode({"x": 1}) == {"x": 1.0}
    for body, pointer in (({"k": 1}, "/x"), ({"x": 1, "k": "2"}, "/k"), ({"x": 1, "z": 2}, "/z")):
        with pytest.raises(InvalidInput) as caught:
            schema.decode(body)
        assert caught.value.pointer == pointer
    assert list(sample_from_schema(schema)) == ["x"]
    with pytest.raises(InvalidSchemaFile) as refused:
        parse_schema({"input": {"x": {**number, "required": ["k"]}}})
    assert refused.value.pointer == "/input/x/required"
