"""The parts behind Azure ML's scripts, without a replica: the collector's tap, forms, envelopes, the finder's order."""

import contextlib
import importlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy_serving.answers import Response
from argosy_serving.azure.collector import ModelDataCollector
from argosy_serving.azure.finder import MODULES, PACKAGES
from argosy_serving.azure.raw_http import AMLRequest, AMLResponse, MissingField
from argosy_serving.multipart import NotMultipart, parameters, parse_multipart
from argosy_serving.request_context import REQUEST_ID
from argosy_serving.schema import InvalidInput, parse_schema
from argosy_serving.tap import TAP, Collected


@pytest.fixture
def taken() -> Iterator[list[Collected]]:
    rows: list[Collected] = []
    TAP.sink = rows.append
    yield rows
    TAP.sink = None


def test_collected_rows_are_copies(taken: list[Collected]) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [["x"], ["y"]]})
    before = frame.copy(deep=True)
    token = REQUEST_ID.set("r7")
    ModelDataCollector("iris", identifier="inputs", model_id="m1").collect(frame, "c1")
    REQUEST_ID.reset(token)
    pd.testing.assert_frame_equal(frame, before)
    frame["b"].tolist()[0].append("changed")
    only = taken[0]
    assert (only.columns, only.rows) == (("a", "b"), ((1, ["x"]), (2, ["y"])))
    assert (only.request_id, only.correlation_id) == ("r7", "c1")
    assert only.origin["identifier"] == "inputs" and only.origin["model_id"] == "m1"
    assert only.timestamp.endswith("+00:00")


@pytest.mark.parametrize(
    ("data", "columns", "rows"),
    [
        ([1, "a", None], (), ((1, "a", None),)),
        (np.array([1.5, 2.5]), (), ((1.5, 2.5),)),
        (np.array([[1], [2]]), (), ((1,), (2,))),
        (np.array(3), (), ((3,),)),
        (np.zeros((0, 2)), (), ()),
        (np.array([(1, 2.5)], dtype=[("n", "i4"), ("x", "f8")]), ("n", "x"), ((1, 2.5),)),
        (pd.DataFrame({1: []}), ("1",), ()),
    ],
)
def test_what_can_be_collected(taken: list[Collected], data: Any, columns: Any, rows: Any) -> None:
    ModelDataCollector("m").collect(data)
    assert (taken[0].columns, taken[0].rows) == (columns, rows)


def test_what_cannot_is_told_and_never_raised(taken: list[Collected], caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        def __deepcopy__(self, _: Any) -> Any:
            raise RuntimeError("no copies")

    for data in ({"a": 1}, None, "text", np.zeros((1, 1, 1)), [Odd()]):
        ModelDataCollector("m").collect(data)
    ModelDataCollector("m", feature_names=["a"]).collect([1, 2])
    assert not taken and len(caplog.records) == 6


def test_a_sink_that_fails_costs_rows_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Collected) -> None:
        raise OSError("disk full")

    dropped, TAP.sink = TAP.rows_dropped, broken
    try:
        ModelDataCollector("m").collect([1])
    finally:
        TAP.sink = None
    assert TAP.rows_dropped == dropped + 1 and "disk full" in caplog.text


def test_the_stand_ins_are_only_installed_by_a_replica() -> None:
    code = (
        "import importlib.util as u, sys, argosy_serving, argosy_serving.schema\n"
        "assert u.find_spec('azureml') is None and u.find_spec('inference_schema') is None\n"
        "from argosy_serving.azure.finder import install\n"
        "install(); install()\n"
        "assert type(sys.meta_path[-1]).__name__ == 'ShimFinder', 'asked last'\n"
        "assert sum(type(f).__name__ == 'ShimFinder' for f in sys.meta_path) == 1\n"
        "import azureml.api.schema.dataTypes, azureml.contrib.services.aml_response\n"
        "assert u.find_spec('azureml.train') is None and u.find_spec('azure') is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert importlib.util.find_spec("azureml") is None
    assert {"azureml", "azureml.api", "inference_schema.parameter_types"} <= PACKAGES
    for source, names in MODULES.values():
        module = importlib.import_module(source)
        assert all(hasattr(module, name) for name in names)


def test_parameters_of_headers() -> None:
    given = 'form-data; NAME="a\\"b"; filename*=UTF-8\'\'b%C3%A9.png; filename=plain; x="open; y=1'
    assert parameters(given) == {"name": 'a"b', "filename": "bé.png", "x": "open; y=1"}
    started = time.process_time()
    parameters(';x="\\' * 20_000)
    parameters("; " * 40_000)
    assert time.process_time() - started < 5, "hostile headers are read once"


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text(st.characters(codec="ascii", exclude_characters='"\\\r\n\0'), max_size=9), st.binary()))
)
def test_forms_give_back_their_bytes(fields: list[tuple[str, bytes]]) -> None:
    boundary = b"=_argosy_boundary_0123456789"
    parts = (
        b'Content-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s' % (name.encode(), body)
        for name, body in fields
        if boundary not in body
    )
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts) + b"--%s--" % boundary
    found = parse_multipart(f'multipart/form-data; boundary="{boundary.decode()}"', body)
    assert [(part.name, part.body) for part in found] == [f for f in fields if boundary not in f[1]]


@given(
    st.lists(st.sampled_from([b"--b", b"--b--", b"\r\n", b"\r\n\r\n", b"content-disposition: form-data; name=a", b"x"]))
)
def test_broken_forms_are_refused_and_nothing_else(pieces: list[bytes]) -> None:
    with contextlib.suppress(NotMultipart):
        parse_multipart("multipart/form-data; boundary=b", b"".join(pieces))


NAMED = st.sampled_from(["a", "f", "input_data", "inputs", "instances", "dataframe_split", "columns", "data", "index"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | NAMED,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMED, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(NAMED, JSON, max_size=3), st.booleans())
def test_any_envelope_is_read_or_refused(body: dict[str, Any], several: bool) -> None:
    """Never another error than InvalidInput."""
    inputs: dict[str, Any] = {"f": {"type": "pandas", "columns": [{"name": "a", "dtype": "float64"}]}}
    if several:
        inputs["a"] = {"type": "numpy", "dtype": "int64", "shape": [None]}
    with contextlib.suppress(InvalidInput):
        parse_schema({"input": inputs}).decode_body(orjson.dumps(body))


def test_aml_requests_speak_flasks_words() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded", "X-Own": "1"}
    request = AMLRequest("POST", "/score", b"a=1&a=2&b=", headers, b"c=%C3%A9+x")
    assert (request.args["a"], request.args.getlist("a"), request.args.get("b")) == ("1", ["1", "2"], "")
    assert (request.form["c"], request.values["c"], request.data) == ("é x", "é x", b"")
    assert request.headers["x-own"] == request.headers.get("X-OWN") == "1" and "x-OWN" in request.headers
    assert request.get_data(as_text=True) == "c=%C3%A9+x" and request.stream.read() == b"c=%C3%A9+x"
    with pytest.raises(KeyError):
        request.form["nothing"]
    with pytest.raises(MissingField, match="/a~1b"):
        request.args["a/b"]
    with pytest.raises(InvalidInput):
        request.get_json()
    assert request.get_json(silent=True) is None and not request.files
    with pytest.raises(InvalidInput):
        AMLRequest("POST", "/score", b"&".join([b"a=1"] * 2000), {}, b"")
    assert AMLRequest("POST", "/score", b"", {"content-type": "application/json"}, b"[1]").json == [1]


def test_aml_responses() -> None:
    assert isinstance(AMLResponse("text", 200), Response)
    made = AMLResponse("é", 404, {"X-A": "b"})
    assert (made.body, made.status_code, made.headers["X-A"]) == ("é".encode(), 404, "b")
    assert made.headers["Content-Type"] == "text/html; charset=utf-8"
    assert AMLResponse(None, 200).body == b"{}"
    assert (
        AMLResponse({"a": 1}, 200, {"content-type": "x/y"}, json_str=True).headers["Content-Type"] == "application/json"
    )
    made.headers["x-a"] = "c"
    assert {k.lower(): v for k, v in made.headers.items()}["x-a"] == "c" and len(made.headers) == 3
    for name, value in (("x", "a\r\nb: c"), ("a b", "c"), ("content-length", "5")):
        with pytest.raises(ValueError, match="header"):
            made.headers[name] = value
        with pytest.raises(ValueError, match="header"):
            AMLResponse("x", 200, {name: value})
        with pytest.raises(ValueError, match="header"):
            made.headers.update({name: value})
