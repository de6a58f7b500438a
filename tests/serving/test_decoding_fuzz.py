"""Any body at all, to a real replica: it is scored or refused, never a 5xx, never a hang, and nothing in the log."""

import contextlib
import http.client
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

KEY = "the-primary-key"
DTYPES = ["float64", "float16", "int8", "uint64", "bool", "str", "datetime64[ms]", "timedelta64[s]", "object"]
COLUMNS = ["float32", "int16", "bool", "str", "datetime64[ns]", "timedelta64[ns]", "Int64", "boolean", "string"]
SCHEMA = {
    "input": {
        **{f"a{n}": {"type": "numpy", "dtype": dtype, "shape": [None] * (n % 4)} for n, dtype in enumerate(DTYPES)},
        "records": {"type": "numpy", "dtype": [["x", "int8"], ["s", "str"], ["t", "datetime64[D]"]], "shape": [None]},
        "df": {
            "type": "pandas",
            "columns": [
                *({"name": dtype, "dtype": dtype} for dtype in COLUMNS),
                {"name": "zone", "dtype": "datetime64[us]", "timezone": "Europe/Berlin"},
                {"name": "kind", "dtype": "category", "categories": ["a", 1]},
            ],
        },
        **{
            form: {"swagger": {"type": "string", "format": form}}
            for form in ("byte", "date", "date-time", "time", "duration", "decimal")
        },
        "tree": {
            "swagger": {"type": "object", "additionalProperties": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}
        },
    }
}
SCRIPT = "def run(**inputs): return len(inputs)"
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

json_numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=8) | st.sampled_from(
    ["2024-02-30", "2024-05-31T12:00:00Z", "9999-12-31T23:59:59.999999999+23:59", "0001-01-01", "5 days",
     "-1 day, 1:0:0", "P999999999D", "24:00:00", "1e9999", "-0.0", "====", "aGk=", "\ud7ff"]
)  # fmt: skip
leaves = st.none() | st.booleans() | json_numbers | texts
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
row = st.fixed_dictionaries(
    dict.fromkeys([*COLUMNS, "zone", "kind"], leaves), optional={"index": leaves, "columns": anything}
)
frames = st.one_of(
    st.lists(row, max_size=3),
    st.fixed_dictionaries({name: st.lists(leaves, max_size=2) for name in [*COLUMNS, "zone", "kind"]}),
    st.fixed_dictionaries({"columns": st.permutations([*COLUMNS, "zone", "kind"]), "data": st.lists(st.lists(leaves))}),
    anything,
)
arrays = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
bodies = st.fixed_dictionaries(
    {name: arrays | anything for name in SCHEMA["input"] if name != "df"} | {"df": frames},
    optional={"more": anything, "inputs": anything, "dataframe_split": anything},
)


def good() -> dict[str, Any]:
    """A body that fits, so that changes to it reach far."""
    cells = {"float32": 1.5, "int16": 2, "bool": True, "str": "s", "datetime64[ns]": "2024-05-31",
             "string": None, "timedelta64[ns]": "5 days", "Int64": None, "boolean": True,
             "zone": "2024-05-31", "kind": "a"}  # fmt: skip
    leaf = {"float64": 1.5, "float16": 1.5, "int8": 1, "uint64": 1, "bool": True, "str": "s", "object": None,
            "datetime64[ms]": "2024-05-31", "timedelta64[s]": "5 days"}  # fmt: skip
    made: dict[str, Any] = {}
    for n, dtype in enumerate(DTYPES):
        made[f"a{n}"] = leaf[dtype]
        for _ in range(n % 4):
            made[f"a{n}"] = [made[f"a{n}"]]
    return made | {
        "records": [{"x": 1, "s": "a", "t": "2024-05-31"}], "df": [cells], "byte": "aGk=", "date": "2024-05-31",
        "date-time": "2024-05-31T12:00:00Z", "time": "12:00:00", "duration": "P1D", "decimal": "1.5", "tree": {"a": 1},
    }  # fmt: skip


class Caller:
    """One connection that is kept, for a new one each time would cost more than the request."""

    def __init__(self, replica: Any, connection: http.client.HTTPConnection) -> None:
        self._replica, self._connection = replica, connection

    def __call__(self, body: bytes, headers: dict[str, str], url: str = "/score") -> int:
        given = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
        self._connection.request("POST", url, body, given)
        reply = self._connection.getresponse()
        content = reply.read()
        assert reply.status in (200, 400, 413, 415), (reply.status, content, self._replica.log_text()[-3000:])
        if reply.status != 200:
            assert json.loads(content)["error"]
        return reply.status


@pytest.fixture
def caller(replica: Any) -> Iterator[Caller]:
    replica.write_image(SCRIPT, SCHEMA)
    replica.start()
    yield from _caller(replica)


@pytest.fixture
def array_caller(replica: Any) -> Iterator[Caller]:
    columns = [
        {"name": "a", "dtype": "float64"},
        {"name": "b", "dtype": "str"},
        {"name": "c", "dtype": "datetime64[us]"},
    ]
    replica.write_image("def run(x): return len(x)", {"input": {"x": {"type": "pandas", "columns": columns}}})
    replica.start()
    yield from _caller(replica)


def _caller(replica: Any) -> Iterator[Caller]:
    connection = replica.connection()
    yield Caller(replica, connection)
    connection.close()
    assert [line for line in replica.log() if line["level"].lower() == "error"] == []


def damaged(body: bytes) -> st.SearchStrategy[bytes]:
    """The body with a few places changed, or cut off."""
    change = st.tuples(st.integers(0, max(0, len(body) - 1)), st.binary(max_size=4))

    def apply(changes: list[tuple[int, bytes]]) -> bytes:
        made = bytearray(body)
        for place, content in changes:
            made[place : place + max(1, len(content))] = content
        return bytes(made)

    return st.lists(change, min_size=1, max_size=4).map(apply) | st.integers(0, len(body)).map(lambda n: body[:n])


@pytest.mark.shows(
    "Inputs and outputs",
    "Any JSON for any schema is decoded or a 400",
    "hypothesis",
)
def test_any_json(caller: Caller) -> None:
    assert caller(orjson.dumps(good()), {}) == 200

    @SETTINGS
    @given(bodies | anything)
    @example({**good(), "duration": "P9999999W"})
    @example({**good(), "df": {}})
    def check(body: Any) -> None:
        caller(json.dumps(body).encode("utf-8", "surrogatepass"), {})

    check()


def test_one_input_of_a_good_body_replaced(caller: Caller) -> None:
    @SETTINGS
    @given(st.sampled_from(sorted(SCHEMA["input"])), frames | arrays)
    def check(name: str, value: Any) -> None:
        caller(json.dumps({**good(), name: value}).encode("utf-8", "surrogatepass"), {})

    check()


def test_damaged_json(caller: Caller) -> None:
    @SETTINGS
    @given(damaged(orjson.dumps(good())))
    @example(b'{"tree":' * 100_000)
    @example(b"[" * 1_000_000)
    def check(body: bytes) -> None:
        caller(body, {})

    check()


def _stream() -> bytes:
    sink = pa.BufferOutputStream()
    moments = pa.array([1, None], pa.timestamp("us"))
    table = pa.table({"a": [1.5, 2.5], "b": pa.array(["x", "y"]).dictionary_encode(), "c": moments})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _form() -> bytes:
    head = b'content-disposition: form-data; name="x"; filename="f"'
    return b"--B\r\n" + head + b'\r\n\r\n[{"a":1,"b":"","c":"2024-05-31"}]\r\n--B--\r\n'


def _tensors() -> tuple[bytes, bytes]:
    inputs = [
        {"name": "a", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
        {"name": "b", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 10}},
        {"name": "c", "datatype": "BYTES", "shape": [2], "data": ["2024-05-31", "2024-05-31"]},
    ]
    return json.dumps({"inputs": inputs}).encode(), struct.pack("<ff", 1, 2) + b"\1\0\0\0a\1\0\0\0b"


@pytest.mark.parametrize("kind", ["arrow", "form", "tensors", "gzip"])
def test_damaged_bodies_in_other_forms(array_caller: Caller, kind: str) -> None:
    import gzip

    head, tail = _tensors()
    rows = b'{"x":[{"a":1,"b":"","c":"2024-05-31"}]}'
    whole, headers, url = {
        "arrow": (_stream(), {"content-type": "application/vnd.apache.arrow.stream"}, "/score"),
        "form": (_form(), {"content-type": "multipart/form-data; boundary=B"}, "/score"),
        "tensors": (head + tail, {"inference-header-content-length": str(len(head))}, "/v2/models/iris/infer"),
        "gzip": (gzip.compress(rows, mtime=0), {"content-encoding": "gzip"}, "/score"),
    }[kind]
    assert array_caller(whole, headers, url) == 200

    @SETTINGS
    @given(damaged(whole))
    def check(body: bytes) -> None:
        array_caller(body, headers, url)

    check()


def test_damaged_npy(replica: Any) -> None:
    replica.write_image(
        "def run(x): return len(x)", {"input": {"x": {"type": "numpy", "dtype": "str", "shape": [None]}}}
    )
    replica.start()
    out = io.BytesIO()
    np.save(out, np.array(["one", "two"]))
    headers = {"content-type": "application/x-npy"}
    with contextlib.contextmanager(_caller)(replica) as caller:
        assert caller(out.getvalue(), headers) == 200

        @SETTINGS
        @given(damaged(out.getvalue()))
        def check(body: bytes) -> None:
            caller(body, headers)

        check()
