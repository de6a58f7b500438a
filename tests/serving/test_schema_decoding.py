"""Schema files and the decoding of request bodies, without a replica."""

import datetime
import math
import subprocess
import sys
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy_serving.schema import (
    DataTypes,
    InvalidInput,
    InvalidSchemaFile,
    SampleDefinition,
    generate_schema,
    parse_schema,
    sample_from_schema,
)


def one(entry: dict[str, Any], value: Any) -> Any:
    return parse_schema({"input": {"x": entry}}).decode_body(orjson.dumps({"x": value}))["x"]


def refused(entry: dict[str, Any], value: Any) -> tuple[str, str, str]:
    with pytest.raises(InvalidInput) as caught:
        one(entry, value)
    return caught.value.pointer, caught.value.expected, caught.value.received


WHOLE = "a whole number from -2147483648 to 2147483647 (int32)"


def array(dtype: str, *shape: int | None, **more: Any) -> dict[str, Any]:
    return {"type": "numpy", "dtype": dtype, "shape": list(shape), **more}


def test_arrays() -> None:
    got = one(array("float64", None, 2), [[1, 2], [3.5, 4]])
    assert (got.dtype, got.tolist()) == (np.float64, [[1.0, 2.0], [3.5, 4.0]])
    assert one(array("float64", None, 2), []).shape == (0, 2)
    assert one(array("float32"), 2).shape == ()
    assert one(array("int8", None), [1.0, -128]).tolist() == [1, -128]
    assert one(array("bool", None), [True, False]).tolist() == [True, False]
    assert one(array("str", None), ["a", "much longer"]).tolist() == ["a", "much longer"]
    assert one(array("uint64", None), [2**64 - 1]).tolist() == [2**64 - 1]
    assert math.isnan(one(array("float64", None, nullable=True), [None, 1])[0])
    assert one(array("object", None), [[1], "a"]).tolist() == [[1], "a"]
    dates = one(array("datetime64[s]", None), ["2024-01-02", "2024-01-02T03:04:05+01:00"])
    assert dates.astype(str).tolist() == ["2024-01-02T00:00:00", "2024-01-02T02:04:05"]
    record = {"type": "numpy", "dtype": [["a", "int32"], ["s", "str"]], "shape": [None]}
    assert one(record, [{"a": 1, "s": "long text"}])[0].tolist() == (1, "long text")


@pytest.mark.parametrize(
    ("entry", "value", "pointer", "expected", "received"),
    [
        (array("int32", None), [1.7], "/x/0", WHOLE, "the number 1.7"),
        (array("int32", None), [0, 2**31], "/x/1", WHOLE, "the number 2147483648"),
        (array("uint8", None), [-1], "/x/0", "a whole number from 0 to 255 (uint8)", "the number -1"),
        (array("int64", None), [1e17], None, None, None),
        (array("float32", None), [1e300], "/x/0", "a number (float32)", "the number 1e+300"),
        (array("float64", None), [1, True], "/x/1", "a number (float64)", "true"),
        (array("float64", None), [None], "/x/0", "a number (float64)", "null"),
        (array("float64", None), ["1"], "/x/0", "a number (float64)", "the string '1'"),
        (array("float64", None), {"a": 1}, "/x", "an array", "an object with a"),
        (array("float64", 2, 2), [[1, 2], [1]], "/x/1", "an array of 2", "an array of 1"),
        (array("float64", 2, 2), [[1, 2]], "/x", "an array of 2", "an array of 1"),
        (array("float64", None, None), [[1, 2], [1]], "/x/1", "an array of 2", "an array of 1"),
        (array("float64", None, None), [[1, 2], 3], "/x/1", "an array", "the number 3"),
        (array("float64", None), [[1]], "/x/0", "a number (float64)", "an array of 1"),
        (array("bool", None), [1], "/x/0", "true or false", "the number 1"),
        (array("str", None), [1], "/x/0", "a string", "the number 1"),
        (array("datetime64[D]", None), ["2024-01-02T03:00:00"], "/x/0", None, None),
        (array("datetime64[ns]", None), ["9999-01-01"], "/x/0", None, None),
    ],
)  # fmt: skip
def test_arrays_refuse(entry: dict[str, Any], value: Any, pointer: Any, expected: Any, received: Any) -> None:
    found = refused(entry, value)
    assert all(want is None or want == got for want, got in zip((pointer, expected, received), found, strict=True)), (
        found
    )


FRAME = {
    "type": "pandas",
    "columns": [{"name": "a", "dtype": "float64"}, {"name": "n", "dtype": "int64"}, {"name": "s", "dtype": "object"}],
    "swagger": {"type": "array", "items": {"type": "object", "properties": {"s": {"type": "string"}}}},
}


def test_frames() -> None:
    got = one(FRAME, [{"s": "x", "n": 1, "a": 2, "more": 1}, {"s": None, "n": 2, "a": None}])
    assert list(got.columns) == ["a", "n", "s"]
    assert [str(t) for t in got.dtypes] == ["float64", "int64", "object"]
    assert got["a"].isna().tolist() == [False, True]
    assert got["s"].tolist() == ["x", None]
    empty = one(FRAME, [])
    assert (list(empty.columns), len(empty)) == (["a", "n", "s"], 0)
    assert refused(FRAME, [{"a": 1, "n": 1}])[:2] == ("/x/0/s", "this column")
    assert refused(FRAME, [{"a": 1, "n": None, "s": ""}])[0] == "/x/0/n"
    assert refused(FRAME, [{"a": "oops", "n": 1, "s": ""}])[0] == "/x/0/a"
    assert refused(FRAME, [{"a": 1, "n": 1, "s": 3}]) == ("/x/0/s", "a string", "the number 3")
    assert refused(FRAME, "a")[:2] == ("/x", "an array of row objects")
    assert refused(FRAME, [[1, 2]])[0] == "/x/0"
    closed = {**FRAME, "swagger": {"items": {"additionalProperties": False}}}
    assert refused(closed, [{"a": 1, "n": 1, "s": "", "more": 1}])[0] == "/x/0/more"


def test_a_uniform_frame_names_the_column() -> None:
    entry = {"type": "pandas", "columns": [{"name": n, "dtype": "float64"} for n in ("a", "b/c")]}
    assert one(entry, [{"b/c": 2, "a": 1}]).to_numpy().tolist() == [[1.0, 2.0]]
    assert refused(entry, [{"a": 1, "b/c": "2"}])[0] == "/x/0/b~1c"
    assert refused(entry, [{"a": 1}])[0] == "/x/0/b~1c"
    assert one(entry, [{"a": None, "b/c": 1}])["a"].isna().tolist() == [True]


@pytest.mark.parametrize(
    ("swagger", "good", "bad"),
    [
        ({"type": "integer", "format": "int8"}, [1, 2.0, -128], [1.5, "1", True, 128, None]),
        ({"type": "number"}, [1, 1.5], ["1", True, None, []]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"type": "string", "nullable": True, "maxLength": 2}, ["ab", None], ["abc"]),
        ({"type": "string", "pattern": "^a+$"}, ["aa"], ["b"]),
        ({"enum": ["a", 1]}, ["a", 1], ["b", True]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1}, [[1]], [[], ["a"], 1]),
        ({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}, [{"a": 1, "b": 2}],
         [{}, {"a": "1"}, []]),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, [{"a": 1}, {}], [{"b": 1}]),
        ({"type": "object", "additionalProperties": {"type": "number"}}, [{"q": 1}], [{"q": "1"}]),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [1.5, None]),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 2}, [0, 1.9], [-0.1, 2]),
        ({"type": "number", "maximum": 2, "exclusiveMaximum": True}, [1.9], [2]),
    ],
)  # fmt: skip
def test_standard_types(swagger: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    entry = {"type": "standard", "swagger": swagger}
    for value in good:
        assert one(entry, value) == value
    for value in bad:
        assert refused(entry, value)[0].startswith("/x")


def test_strings_with_a_format() -> None:
    def text(form: str) -> dict[str, Any]:
        return {"type": "standard", "swagger": {"type": "string", "format": form}}

    utc = datetime.UTC
    assert one(text("byte"), "aGk=") == b"hi"
    assert one(text("date"), "2024-02-29") == datetime.date(2024, 2, 29)
    assert one(text("date-time"), "2024-01-01T00:00:00.5Z") == datetime.datetime(2024, 1, 1, 0, 0, 0, 500000, utc)
    assert one(text("date-time"), "2024-01-01 00:00:00.000000 +0000") == datetime.datetime(2024, 1, 1, tzinfo=utc)
    assert one(text("time"), "12:30:00") == datetime.time(12, 30)
    for form, bad in (
        ("byte", "a"),
        ("date", "2023-02-29"),
        ("date-time", "now"),
        ("time", "25:00"),
        ("date", "20240101"),
    ):
        assert refused(text(form), bad)[0] == "/x"
    nested = {"type": "standard", "swagger": {"type": "array", "items": {"type": "string", "format": "byte"}}}
    assert one(nested, ["aGk="]) == [b"hi"]


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({"input": []}, ""),
        ("{", ""),
        ({"input": {"x": 1}}, "/input/x"),
        ({"input": {"x": {"type": "matrix"}}}, "/input/x/type"),
        ({"input": {"x": {"type": "spark"}}}, "/input/x/type"),
        ({"input": {"x": {"type": 2, "swagger": {}}}}, "/input/x/type"),
        ({"input": {"x": {"type": "numpy", "dtype": "complex64", "shape": [1]}}}, "/input/x/dtype"),
        ({"input": {"x": {"type": "numpy", "dtype": "int8", "shape": [-1]}}}, "/input/x/shape"),
        ({"input": {"x": {"type": "pandas"}}}, "/input/x/columns"),
        ({"input": {"x": {"type": "pandas", "columns": [{"name": "a", "dtype": "?"}]}}}, "/input/x/columns/0/dtype"),
        ({"input": {"x": {"swagger": {"$ref": "#/a"}}}}, "/input/x/swagger/$ref"),
        ({"input": {"x": {"swagger": {"type": "int"}}}}, "/input/x/swagger/type"),
        ({"input": {"a/b": {"swagger": {"pattern": "("}}}}, "/input/a~1b/swagger/pattern"),
    ],
)
def test_schema_files_that_cannot_be_used(document: Any, pointer: str) -> None:
    with pytest.raises(InvalidSchemaFile) as caught:
        parse_schema(document)
    assert caught.value.pointer == pointer


def test_a_file_of_2017() -> None:
    number = {"type": "number", "format": "double"}
    document = {
        "input": {
            "arr": {"internal": "never loaded", "type": 1, "swagger":
                    {"type": "array", "items": {"type": "array", "items": number}, "example": [[1.0, 2.0]]}},
            "df": {"internal": "", "type": 3, "swagger":
                   {"type": "array", "items": {"type": "object", "properties": {"a": number, "s": {"type": "string"}}},
                    "example": [{"a": 1.0, "s": "x"}]}},
            "opts": {"internal": "", "type": 0, "swagger":
                     {"type": "object", "additionalProperties": {"type": "object"}, "example": {"k": 1}}},
            "items": {"internal": "", "type": 0, "swagger": {"type": "array", "items": {"type": "object"}}},
        },
        "output": {"out": {"internal": "", "type": 0, "swagger": {"type": "string", "example": "ok"}}},
    }  # fmt: skip
    schema = parse_schema(document)
    body = {"arr": [[1, 2], [3, 4]], "df": [{"s": "q", "a": 1}], "opts": {"k": [1, "a"]}, "items": [1, "a"]}
    got = schema.decode(body)
    assert got["arr"].shape == (2, 2)
    assert got["df"].to_dict("records") == [{"a": 1.0, "s": "q"}]
    assert (got["opts"], got["items"]) == ({"k": [1, "a"]}, [1, "a"])
    sample = sample_from_schema(document)
    assert (sample["arr"], sample["opts"], sample["items"]) == ([[1.0, 2.0]], {"k": 1}, [{}])


def test_generated_schemas_read_back(tmp_path: Any) -> None:
    frame = pd.DataFrame(
        {
            "f": [1.5, None, 3, 4], "i": [1, 2, 3, 4], "b": [True, False, True, True], "s": ["a", "b", None, "d"],
            "t": pd.to_datetime(["2024-01-01"] * 4), "z": pd.to_datetime(["2024-01-01"] * 4, utc=True),
            "c": pd.Categorical(["u", "v", "u", "u"]), "d": pd.to_timedelta(["1 days"] * 4),
            "N": pd.array([1, None, 2, 3], dtype="Int64"),
        }
    )  # fmt: skip

    def run(df: Any, arr: Any, img: Any, opts: Any, request: Any, day: Any = None) -> None: ...

    inputs = {
        "df": SampleDefinition(DataTypes.PANDAS, frame),
        "arr": SampleDefinition(DataTypes.NUMPY, np.arange(8, dtype="int16").reshape(4, 2)),
        "img": SampleDefinition(DataTypes.STANDARD, b"\x00\xff"),
        "opts": {"k": [1, 2], "deep": {"a": 1.5}},
        "day": datetime.date(2024, 1, 1),
    }
    path = tmp_path / "schema.json"
    document = generate_schema(run, inputs, {"out": np.zeros(3)}, path)
    assert orjson.loads(path.read_bytes()) == document
    assert len(document["input"]["df"]["example"]) == 3
    assert document["input"]["arr"]["shape"] == [None, 2]
    got = parse_schema(path.read_bytes()).decode(sample_from_schema(document))
    pd.testing.assert_frame_equal(got["df"], frame.head(3), check_dtype=False, check_categorical=False)
    assert {n: str(t) for n, t in got["df"].dtypes.items() if str(n) in "fibcNz"} == {
        n: str(t) for n, t in frame.dtypes.items() if str(n) in "fibcNz"
    }
    assert (got["arr"].dtype, got["img"], got["opts"]) == (np.int16, b"\x00\xff", inputs["opts"])
    assert got["day"] == datetime.date(2024, 1, 1)


def test_generate_schema_compares_names() -> None:
    def run(a: Any, b: Any) -> None: ...

    with pytest.raises(ValueError, match="no parameter 'c'"):
        generate_schema(run, {"a": 1, "b": 2, "c": 3})
    with pytest.raises(ValueError, match="no sample for run\\(\\)'s b"):
        generate_schema(run, {"a": 1})
    with pytest.raises(ValueError, match="no sample"):
        generate_schema(run)
    with pytest.raises(ValueError, match="complex128"):
        generate_schema(run, {"a": np.zeros(2, complex), "b": 1})


def test_samples_without_examples() -> None:
    document = {
        "input": {
            "a": array("float64", None, 3),
            "f": {"type": "pandas", "columns": [{"name": "u", "dtype": "int64"}, {"name": "v", "dtype": "str"}]},
            "o": {"swagger": {"type": "object", "properties": {"d": {"type": "string", "format": "date"}}}},
            "m": {"type": "standard", "swagger": {"type": "number", "exclusiveMinimum": 3}},
        }
    }  # fmt: skip
    sample = sample_from_schema(document)
    assert sample["a"] == [[0, 0, 0]]
    parse_schema(document).decode(sample)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "n", "s", "q"]), inner, max_size=4)
    ),
    max_leaves=12,
)
ENTRIES = [
    array("float64", None, 2), array("int8", None), array("float32", None, nullable=True), array("bool", None, None),
    array("str", None), array("datetime64[ns]", None), array("object", None, 2), array("uint64", 2, None),
    {"type": "numpy", "dtype": [["a", "int32"], ["s", "str"]], "shape": [None]}, FRAME,
    {"type": "pandas", "columns": [{"name": "a", "dtype": "Int8"},
                                   {"name": "s", "dtype": "category", "categories": ["x"]}]},
    {"type": "pandas", "columns": [{"name": "a", "dtype": "datetime64[ns]", "timezone": "UTC"},
                                   {"name": "s", "dtype": "timedelta64[ns]"}]},
    {"type": "standard", "swagger": {"type": "object", "properties": {"a": {"type": "string", "format": "date-time"}},
                                     "additionalProperties": {"anyOf": [{"type": "integer", "format": "int32"}, {}]}}},
]  # fmt: skip
SCHEMAS = [parse_schema({"input": {"x": entry}}) for entry in ENTRIES]


@settings(max_examples=150, deadline=None)
@given(value=JSON, index=st.integers(0, len(ENTRIES) - 1))
def test_any_json_decodes_or_is_invalid_input(value: Any, index: int) -> None:
    try:
        body = orjson.dumps({"x": value})
    except TypeError:
        return  # an integer that JSON decoders of 64 bits refuse
    try:
        SCHEMAS[index].decode_body(body)
    except InvalidInput as problem:
        pointer = problem.pointer
    else:
        pointer = ""
    assert not pointer or pointer.startswith("/x")


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=40), index=st.integers(0, len(ENTRIES) - 1))
def test_any_bytes_decode_or_are_invalid_input(body: bytes, index: int) -> None:
    try:
        SCHEMAS[index].decode_body(b'{"x":' + body + b"}")
    except InvalidInput:
        pass


def test_reading_a_schema_needs_no_numpy() -> None:
    code = (
        "import sys; sys.modules['numpy'] = sys.modules['pandas'] = None\n"
        "from argosy_serving.schema import parse_schema, sample_from_schema\n"
        "s = parse_schema({'input': {'a': {'type': 'numpy', 'dtype': 'float64', 'shape': [None]},"
        " 'b': {'type': 'pandas', 'columns': [{'name': 'q', 'dtype': 'int64'}]}}})\n"
        "print(sample_from_schema(s)); assert not any(m.startswith('argosy.') for m in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
