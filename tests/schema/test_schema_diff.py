from typing import Any

import pytest

from argosy.schema.diff import Change, diff


def one(kind: str = "standard", **entry: Any) -> dict[str, Any]:
    return {"input": {"x": {"type": kind, **entry}}}


def plain(**fragment: Any) -> dict[str, Any]:
    return one(swagger=fragment)


def frame(*columns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return one("pandas", columns=[{"name": name, "dtype": dtype} for name, dtype in columns], **more)


def breaking(changes: list[Change]) -> list[str]:
    return [f"{change.where}: {change.what}" for change in changes if change.breaking]


ARRAY = one("numpy", dtype="float32", shape=[None, 4])
ROW = {"type": "object", "properties": {"a": {"type": "integer"}}}

BREAKS = [
    (ARRAY, {"input": {}}, "/input/x: removed"),
    ({"input": {}}, ARRAY, "/input/x: new input"),
    (one(required=False), one(), "/input/x: required now"),
    (ARRAY, {"input": {"y": ARRAY["input"]["x"]}}, "/input/x: renamed to 'y'"),
    (ARRAY, one("numpy", dtype="float32", shape=[None, 5]), "/input/x/*: from 4 items to 5 items"),
    (one("numpy", dtype="float32", shape=[None, None]), ARRAY, "/input/x/*: from any number of items to 4 items"),
    (ARRAY, one("numpy", dtype="float32", shape=[None]), "/input/x/*: from array of float to float"),
    (one("numpy", dtype="float64", shape=[None, 4]), ARRAY, "/input/x/*/*: from double to float"),
    (ARRAY, one("numpy", dtype="int64", shape=[None, 4]), "/input/x/*/*: from float to int64"),
    (one("numpy", dtype="float32", shape=[None, 4], nullable=True), ARRAY, "/input/x/*/*: null is no longer allowed"),
    (
        one("numpy", dtype=[["a", "int32"]], shape=[None]),
        one("numpy", dtype=[["a", "int32"]], shape=[None, 2]),
        "/input/x/*: from object to array of object",
    ),
    (frame(("a", "int64")), frame(("a", "int64"), ("b", "str")), "/input/x/*/b: required now"),
    (frame(("a", "int64")), frame(("a", "int8")), "/input/x/*/a: from int64 to int8"),
    (frame(("a", "uint8")), frame(("a", "int8")), "/input/x/*/a: from uint8 to int8"),
    (frame(("a", "str")), frame(("a", "datetime64[ns]")), "/input/x/*/a: from any string to date-time"),
    (plain(enum=["a", "b"]), plain(enum=["a"]), "/input/x: 'b' no longer among the allowed values"),
    (plain(type="string"), plain(type="string", enum=["a"]), "/input/x: only 'a' are allowed now"),
    (plain(type="integer"), plain(type="integer", minimum=3), "/input/x: from minimum none to minimum 3"),
    (plain(type="string", maxLength=9), plain(type="string", maxLength=5), "/input/x: from maxLength 9 to maxLength 5"),
    (plain(type="string"), plain(type="integer"), "/input/x: from string to integer"),
    (plain(type="number"), plain(type="integer"), "/input/x: from number to integer"),
    (plain(), plain(type="string"), "/input/x: from anything to string"),
    (plain(**ROW), plain(**ROW, required=["a"]), "/input/x/a: required now"),
    (plain(**ROW), plain(**ROW, additionalProperties=False), "/input/x: further members are refused now"),
    (plain(type="string"), plain(type="string", pattern="^a"), "/input/x: from pattern None to pattern '^a'"),
    (plain(type="string", nullable=True), plain(type="string"), "/input/x: null is no longer allowed"),
    ({"input": {}, "output": {"y": {}}}, {"input": {}}, "/output/y: removed"),
]


@pytest.mark.parametrize(("old", "new", "said"), BREAKS)
def test_what_breaks_callers(old: dict[str, Any], new: dict[str, Any], said: str) -> None:
    assert said in breaking(diff(old, new))


SAFE = [
    (ARRAY, ARRAY),
    (one(), one(required=False)),
    ({"input": {}}, one(required=False)),
    (ARRAY, one("numpy", dtype="float64", shape=[None, None])),
    (frame(("a", "int64"), ("b", "str")), frame(("b", "str"), ("a", "int64"))),
    (frame(("a", "int64"), ("b", "str")), frame(("a", "float64"))),
    (frame(("a", "int8")), frame(("a", "int16"))),
    (plain(type="integer"), plain(type="number")),
    (plain(enum=["a"]), plain(enum=["a", "b"])),
    (plain(enum=["a"]), plain(type="string")),
    (plain(type="string", minLength=3), plain(type="string")),
    (plain(**ROW, required=["a"]), plain(**ROW)),
    (plain(type="string", description="old", example="x"), plain(type="string", title="new")),
    ({"input": {}}, {"input": {}, "output": {"y": {}}}),
    (plain(type="array", items={"type": "integer"}), one("numpy", dtype="float64", shape=[None])),
]


@pytest.mark.parametrize(("old", "new"), SAFE)
def test_what_does_not(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert breaking(diff(old, new)) == []


def test_an_answer_may_say_less_but_nothing_new() -> None:
    def output(**fragment: Any) -> dict[str, Any]:
        return {"input": {}, "output": {"y": {"swagger": fragment}}}

    assert breaking(diff(output(enum=["a", "b"]), output(enum=["a"]))) == []
    assert breaking(diff(output(enum=["a"]), output(enum=["a", "b"]))) == [
        "/output/y: 'b' new among the allowed values"
    ]
    assert breaking(diff(output(type="integer"), output(type="string"))) == ["/output/y: from integer to string"]
    assert breaking(diff(output(type="number"), output(type="integer"))) == []


def test_a_file_of_2017_and_its_plain_twin_are_the_same() -> None:
    old = {"input": {"x": {"type": 3, "internal": "gASV", "swagger": {
        "type": "array", "items": {"type": "object", "properties": {"a": {"type": "number", "format": "double"}}},
        "example": [{"a": 1.5}]}}}}  # fmt: skip
    assert diff(old, frame(("a", "float64"))) == []
