"""What `run` may return, and the package's own promises."""

import dataclasses
import datetime
import decimal
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from packaging.requirements import Requirement

import argosy_serving
from argosy_serving.answers import NotEncodable, Response, encode_json
from argosy_serving.comparing import differs


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("text", "text"),
        ('{"a": 1}', '{"a": 1}'),
        (np.float32(1.5), 1.5),
        (np.bool_(True), True),
        (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (np.arange(6).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([1.0, math.nan, math.inf]), [1.0, None, None]),
        ({"p": np.array([1]), 2: b"hi"}, {"p": [1], "2": "aGk="}),
        (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        (pd.DataFrame({"t": [pd.Timestamp("2024-01-01"), pd.NaT]}), [{"t": "2024-01-01T00:00:00"}, {"t": None}]),
        (pd.Series([1.5, None]), [1.5, None]),
        (pd.array([1, None], dtype="Int64"), [1, None]),
        (pd.Timestamp("2024-01-01"), "2024-01-01T00:00:00"),
        (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), "2024-01-01T00:00:00+00:00"),
        (datetime.timedelta(days=1), "1 day, 0:00:00"),
        (decimal.Decimal("1.5"), 1.5),
        ({1}, [1]),
        ((1, 2), [1, 2]),
        (Point(1), {"x": 1}),
        (bytearray(b"hi"), "aGk="),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    assert orjson.loads(encode_json(value)) == expected


@pytest.mark.parametrize("value", [object(), 1 + 2j, {"a": object()}, "\ud800", 2**70, lambda: None])
def test_values_without_a_json_form(value: Any) -> None:
    with pytest.raises(NotEncodable, match="JSON cannot say"):
        encode_json(value)


def test_responses_refuse_what_http_cannot_carry() -> None:
    assert Response("text").body == b"text"
    refused: tuple[dict[str, Any], ...] = (
        {"status": 99}, {"status": 600}, {"status": 204, "body": b"x"}, {"headers": {"a b": "c"}},
        {"headers": {"x": "a\r\nset-cookie: b"}}, {"headers": {"Content-Length": "1"}}, {"headers": {"x": "\u20ac"}},
    )  # fmt: skip
    for arguments in refused:
        with pytest.raises(ValueError, match=r"Response|header"):
            Response(**arguments)
    with pytest.raises(TypeError):
        Response({"a": 1})  # type: ignore[arg-type]


def test_differences() -> None:
    assert differs({"a": [1, 2.0000001]}, {"a": [1, 2]}, 1e-6, 1e-6) == ""
    assert differs([1], [1, 2], 0, 0) == "the answer: expected 1 items, received 2"
    assert differs({"a": {"b": 1}}, {"a": {"b": 2}}, 1e-6, 1e-6) == "/a/b: expected 1, received 2"
    assert differs(1, True, 1, 1)
    assert differs(True, 1, 1, 1)
    assert differs("1", 1, 1, 1)
    assert differs({"a": 1}, {"b": 1}, 1, 1).endswith("received ['b']")


def test_the_version_and_the_requirements() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert argosy_serving.__version__ == project["version"]
    names = [Requirement(text).name for text in argosy_serving.REQUIREMENTS]
    assert names == ["httptools", "uvloop", "orjson"]
    assert all(Requirement(text).specifier for text in argosy_serving.REQUIREMENTS)
