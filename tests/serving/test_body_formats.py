"""Bodies and answers that are not plain JSON, over the wire: Arrow, npy, forms, raw bytes, gzip and zstd."""

import datetime
import decimal
import gzip
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zstandard

ARROW = "application/vnd.apache.arrow.stream"
NPY = "application/x-npy"
ECHO = "def run(x): return {'type': str(getattr(x, 'dtype', type(x).__name__)), 'value': x}"
ARRAY = {"input": {"x": {"type": "numpy", "dtype": "float64", "shape": [None, 2]}}}
FRAME = {
    "input": {
        "x": {
            "type": "pandas",
            "columns": [
                {"name": "n", "dtype": "float64"},
                {"name": "i", "dtype": "int32"},
                {"name": "kind", "dtype": "category", "categories": ["a", "b"]},
                {"name": "at", "dtype": "datetime64[us]", "timezone": "UTC"},
                {"name": "took", "dtype": "timedelta64[ns]"},
                {"name": "name", "dtype": "str"},
                {"name": "price", "dtype": "object"},
            ],
            "swagger": {"items": {"properties": {"price": {"type": "string", "format": "decimal"}}}},
        }
    }
}
SEVERAL = {
    "input": {
        "rows": {"type": "numpy", "dtype": "float32", "shape": [None, 2]},
        "df": {"type": "pandas", "columns": [{"name": "a", "dtype": "int64"}]},
        "image": {"type": "standard", "swagger": {"type": "string", "format": "byte"}},
        "threshold": {"type": "standard", "swagger": {"type": "number"}},
        "note": {"type": "standard", "swagger": {"type": "string"}},
    }
}
SEVERAL_RUN = "def run(rows, df, image, threshold, note): return [rows.sum(), df, image, threshold, note]"


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=array.dtype == object)
    return out.getvalue()


def stream(table: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


@pytest.fixture
def serve(replica: Any) -> Callable[..., Any]:
    def start(script: str, schema: Any = None, **settings: Any) -> Any:
        replica.write_image(script, schema)
        if settings:
            replica.write_settings(**settings)
        return replica.start()

    return start


def test_npy_bodies(serve: Any) -> None:
    replica = serve(ECHO, ARRAY)

    def send(body: bytes) -> Any:
        return replica.score(body, {"content-type": NPY})

    for array in (
        np.array([[1.5, 2.0], [3.0, 4.0]]),
        np.asfortranarray([[1.5, 2.0], [3.0, 4.0]]),
        np.array([[1.5, 2.0], [3.0, 4.0]], ">f4"),
        np.array([[1, 2]], "u1"),
        np.empty((0, 2)),
    ):
        reply = send(npy(array))
        assert (reply.status, reply.json) == (200, {"type": "float64", "value": array.tolist()})
    for body, pointer in (
        (npy(np.zeros((2, 3))), "/x"),
        (npy(np.array([[1.0, np.nan]])), "/x/0/1"),
        (npy(np.array([[1.0, np.inf]])), "/x/0/1"),
        (npy(np.array([[True, False]])), "/x/0/0"),
        (npy(np.array([["a", "b"]])), "/x"),
        (npy(np.array([[{}, {}]], dtype=object)), "/x"),
        (npy(np.zeros((1, 2)))[:-1], "/x"),
        (npy(np.zeros((1, 2))).replace(b"(1, 2)", b"(9, 2)"), "/x"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000, "/x"),
        (b"[[1, 2]]", "/x"),
        (b"", "/x"),
    ):
        reply = send(body)
        assert (reply.status, reply.error["details"]["pointer"]) == (400, pointer), reply.body


def test_arrays_as_arrow(serve: Any) -> None:
    replica = serve(ECHO, ARRAY)

    def send(table: Any, **options: Any) -> Any:
        return replica.score(stream(table, **options), {"content-type": ARROW})

    expected = {"type": "float64", "value": [[1.5, 2.0], [3.0, 4.0]]}
    flat = pa.array([1.5, 2, 3, 4])
    for table in (
        pa.table({"any": pa.FixedSizeListArray.from_arrays(flat, 2)}),
        pa.table({"any": pa.array([[1.5, 2.0], [3.0, 4.0]])}),
        pa.table({"a": [1.5, 3.0], "b": pa.array([2, 4], pa.int8())}),
        pa.concat_tables([pa.table({"a": [1.5], "b": [2.0]}), pa.table({"a": [3.0], "b": [4.0]})]),
    ):
        reply = send(table)
        assert (reply.status, reply.json) == (200, expected), reply.body
    for table in (
        pa.table({"a": [1.5]}),
        pa.table({"a": [1.5], "b": ["x"]}),
        pa.table({"a": [1.5], "b": pa.array([None], pa.int32())}),
        pa.table({"a": pa.array([[1.0], [1.0, 2.0]])}),
        pa.table({"a": pa.nulls(3), "b": [1.0, 2.0, 3.0]}),
        pa.table({"a": pa.array([{"b": 1}])}),
    ):
        assert send(table).status == 400
    assert (
        "compressed" in send(pa.table({"a": np.zeros(5000), "b": np.zeros(5000)}), compression="zstd").error["message"]
    )
    assert replica.score(b"nonsense", {"content-type": ARROW}).status == 400
    assert replica.score(b"", {"content-type": ARROW}).status == 400


def test_a_stream_cannot_promise_more_than_it_carries(serve: Any) -> None:
    replica = serve(ECHO, FRAME)
    nulls = pa.table({"n": pa.nulls(10**9), "name": pa.nulls(10**9)})
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4000, "i4")), ["w" * 100_000])
    for table in (
        nulls,
        pa.table({"n": pa.array([[]] * 5, pa.list_(pa.null()))}),
        pa.table({"n": pa.array(["x"] * 5, pa.string_view())}),
        pa.table({"n": pa.array([{}] * 5, pa.struct([]))}),
    ):
        reply = replica.score(stream(table), {"content-type": ARROW})
        assert reply.status == 400, reply.body[:200]
    # 400 MB of text, spelled out; by reference it is read, and refused for its missing columns.
    reply = replica.score(stream(pa.table({"name": words})), {"content-type": ARROW})
    assert (reply.status, reply.error["details"]["pointer"]) == (400, "/x/n")
    broken = stream(pa.table({"name": ["abc"], "n": [1.0]}))
    for place in range(0, len(broken), 3):
        reply = replica.score(broken[:place] + b"\xff\xff\xff\x7f" + broken[place + 4 :], {"content-type": ARROW})
        assert reply.status == 400


def test_frames_as_arrow(serve: Any) -> None:
    script = "def run(x): return {'types': [str(t) for t in x.dtypes], 'rows': x}"
    replica = serve(script, FRAME)
    moment = datetime.datetime(2024, 5, 31, 12, tzinfo=datetime.UTC)
    columns = {
        "price": pa.array([decimal.Decimal("1.10"), None]),
        "name": pa.array(["x", None]),
        "took": pa.array([datetime.timedelta(days=5), None]),
        "at": pa.array([moment, None]),
        "kind": pa.array(["b", None]).dictionary_encode(),
        "i": pa.array([1, 2], pa.int64()),
        "n": pa.array([1.5, None]),
        "more": pa.array([1, 2]),
    }
    reply = replica.score(stream(pa.table(columns)), {"content-type": ARROW})
    assert reply.status == 200, reply.body
    assert reply.json["types"][:3] == ["float64", "int32", "category"]
    first, second = reply.json["rows"]
    assert (first["n"], first["i"], first["kind"], first["name"], first["price"]) == (1.5, 1, "b", "x", 1.1)
    assert first["at"].startswith("2024-05-31T12:00:00") and first["took"] == "5 days 00:00:00"
    assert {name for name, cell in second.items() if cell is not None} == {"i"}
    for name, cells, pointer in (
        ("i", [1, None], "/x/i/1"),
        ("i", [1, 2**40], "/x/i/1"),
        ("kind", ["b", "c"], "/x/kind/1"),
        ("n", ["1", "2"], "/x/n/0"),
        ("name", [b"x", b"y"], None),
        ("at", ["2024-05-31", "soon"], "/x/at/1"),
    ):
        reply = replica.score(stream(pa.table({**columns, name: cells})), {"content-type": ARROW})
        if pointer:
            assert (reply.status, reply.error["details"]["pointer"]) == (400, pointer)
    del columns["i"]
    assert replica.score(stream(pa.table(columns)), {"content-type": ARROW}).error["details"]["pointer"] == "/x/i"


def test_several_inputs(serve: Any) -> None:
    replica = serve(SEVERAL_RUN, SEVERAL)
    expected = [10.0, [{"a": 1}, {"a": 2}], "aGk=", 0.5, "true"]
    row = {"rows": [[1, 2], [3, 4]], "df": [{"a": 1}, {"a": 2}], "image": "aGk=", "threshold": 0.5, "note": "true"}
    assert replica.score(row).json == expected
    table = pa.Table.from_pylist([{**row, "image": b"hi"}])
    assert replica.score(stream(table), {"content-type": ARROW}).json == expected
    assert replica.score(stream(pa.concat_tables([table, table])), {"content-type": ARROW}).status == 400
    assert replica.score(stream(table.drop(["df"])), {"content-type": ARROW}).error["details"]["pointer"] == "/df"
    assert replica.score(npy(np.zeros((2, 2))), {"content-type": NPY}).status == 415

    def part(name: str, content: bytes, kind: str = "", file: bool = False) -> bytes:
        extra = b'; filename="f"' if file else b""
        head = b'content-disposition: form-data; name="%s"%s\r\n' % (name.encode(), extra)
        return head + (b"content-type: %s\r\n" % kind.encode() if kind else b"") + b"\r\n" + content

    def form(*parts: bytes) -> Any:
        body = b"".join(b"--B\r\n" + each + b"\r\n" for each in parts) + b"--B--\r\n"
        return replica.score(body, {"content-type": "multipart/form-data; boundary=B"})

    parts = {
        "rows": part("rows", npy(np.array([[1, 2], [3, 4]])), NPY, True),
        "df": part("df", stream(pa.table({"a": [1, 2]})), ARROW, True),
        "image": part("image", b"hi", "image/png", True),
        "threshold": part("threshold", b"0.5"),
        "note": part("note", b"true"),
    }
    assert form(*parts.values()).json == expected
    plain = {**parts, "rows": part("rows", b"[[1, 2], [3, 4]]"), "note": part("note", b'"true"', "application/json")}
    assert form(*reversed(plain.values())).json == expected
    for changed, pointer in (
        ({"threshold": part("threshold", b"x")}, "/threshold"),
        ({"note": part("note", b"\xff")}, "/note"),
        ({"note": part("other", b"")}, "/other"),
        ({"note": part("df", b"[]")}, "/df"),
        ({"rows": part("rows", b"", NPY)}, "/rows"),
    ):
        reply = form(*{**parts, **changed}.values())
        assert (reply.status, reply.error["details"]["pointer"]) == (400, pointer), reply.body
    del parts["image"]
    assert form(*parts.values()).error["details"]["pointer"] == "/image"
    assert replica.score(b"x", {"content-type": "multipart/form-data"}).status == 400


def test_raw_bytes(serve: Any) -> None:
    schema = {"input": {"x": {"swagger": {"type": "string", "format": "byte", "maxLength": 8}}}}
    replica = serve("def run(x): return [type(x).__name__, x]", schema)
    for kind in ("application/octet-stream", "image/png", "audio/wav"):
        assert replica.score(b"\xff\x00", {"content-type": kind}).json == ["bytes", "/wA="]
    assert replica.score({"x": "/wA="}).json == ["bytes", "/wA="]
    assert replica.score(b"1234567", {"content-type": "image/png"}).status == 400
    arrow = stream(pa.table({"x": [b"\xff\x00"]}))
    assert replica.score(arrow, {"content-type": ARROW}).json == ["bytes", "/wA="]


def test_types_that_cannot_be_read(serve: Any) -> None:
    replica = serve(ECHO, ARRAY)
    for kind in ("application/octet-stream", "image/png", "application/xml"):
        reply = replica.score(b"x", {"content-type": kind})
        assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")
        assert "x (numpy)" in reply.error["message"]
    reply = replica.score(b"x", {"content-encoding": "br"})
    assert reply.status == 415 and "gzip" in reply.error["message"]


def test_compressed_bodies(serve: Any) -> None:
    replica = serve(ECHO, ARRAY, max_body_bytes=100_000)
    plain = json.dumps({"x": [[1.5, 2.0]]}).encode()
    halves = gzip.compress(plain[:5]) + gzip.compress(plain[5:])
    expected = {"type": "float64", "value": [[1.5, 2.0]]}
    for encoding, body in (
        ("gzip", gzip.compress(plain)), ("GZIP", halves), ("zstd", zstandard.compress(plain)), ("identity", plain),
        ("deflate", zlib.compress(plain)),
    ):  # fmt: skip
        reply = replica.score(body, {"content-encoding": encoding})
        assert (reply.status, reply.json) == (200, expected), reply.body
    body = gzip.compress(npy(np.array([[1.5, 2.0]])))
    assert replica.score(body, {"content-encoding": "gzip", "content-type": NPY}).json == expected

    bomb = b" " * 50_000_000
    assert replica.score(gzip.compress(bomb), {"content-encoding": "gzip"}).status == 413
    assert replica.score(zstandard.compress(bomb), {"content-encoding": "zstd"}).status == 413
    window = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27))
    huge = window.compressobj().compress(plain) + window.compressobj().flush()
    for encoding, broken in (
        ("gzip", plain), ("gzip", gzip.compress(plain)[:-4]), ("gzip", gzip.compress(plain) + b"more"), ("gzip", b""),
        ("gzip", zlib.compress(plain)), ("gzip", gzip.compress(b"") * 4900), ("zstd", plain), ("zstd", huge),
    ):  # fmt: skip
        reply = replica.score(broken, {"content-encoding": encoding})
        assert (reply.status, reply.error["code"]) == (400, "invalid_input"), (encoding, broken[:20], reply.body)


def test_a_script_without_schema_gets_the_body_as_it_was(serve: Any) -> None:
    replica = serve("def run(raw: str, request): return [raw, 'content-encoding' in request.headers]")
    reply = replica.score(gzip.compress(b"hello"), {"content-encoding": "gzip", "content-type": "image/png"})
    assert reply.json == ["hello", False]


ANSWERS = """
import numpy as np, pandas as pd
VALUES = {
    "array": np.arange(6.0).reshape(3, 2), "vector": np.array([1, 2]), "list": [1.5, 2.5], "text": "hello",
    "frame": pd.DataFrame({"a": [1.5, None], "b": ["x", "y"]}), "series": pd.Series([1, 2], name="s"),
    "dict": {"a": np.array([1, 2]), "b": ["x", "y"]}, "rows": [{"a": 1}, {"a": 2}], "nan": np.array([np.nan, np.inf]),
}
def run(x): return VALUES[x]
"""


def test_answers_in_other_forms(serve: Any) -> None:
    replica = serve(ANSWERS, {"input": {"x": {"swagger": {"type": "string"}}}})

    def ask(name: str, accept: str) -> Any:
        return replica.score({"x": name}, {"accept": accept})

    for name, expected in (("array", [[0, 1], [2, 3], [4, 5]]), ("vector", [1, 2]), ("list", [1.5, 2.5])):
        reply = ask(name, NPY)
        assert (reply.status, reply.headers["content-type"]) == (200, NPY)
        assert np.load(io.BytesIO(reply.body)).tolist() == expected
        table = pa.ipc.open_stream(ask(name, ARROW).body).read_all()
        assert table.to_pydict() == {"output": expected}
    assert np.isnan(np.load(io.BytesIO(ask("nan", NPY).body))[0])
    assert ask("nan", "application/json").json == [None, None]
    frame = pa.ipc.open_stream(ask("frame", ARROW).body).read_all()
    assert frame.to_pydict() == {"a": [1.5, None], "b": ["x", "y"]}
    assert pa.ipc.open_stream(ask("series", ARROW).body).read_all().to_pydict() == {"s": [1, 2]}
    for name in ("dict", "rows"):
        assert pa.ipc.open_stream(ask(name, ARROW).body).read_all().to_pydict()["a"] == [1, 2]
    for accept in (NPY, ARROW):
        reply = ask("text", accept)
        assert (reply.status, reply.error["code"]) == (406, "not_acceptable")
        assert ask("text", f"{accept}, application/json;q=0.5").json == "hello"
    for accept in ("text/html,*/*;q=0.8", f"application/json, {NPY}", "image/png", ";;,,"):
        assert ask("list", accept).json == [1.5, 2.5]


@pytest.mark.parametrize(
    "value",
    [
        [{"b": "x", "a": 1.0}, {"a": None, "b": "y", "c": 1}],
        {"columns": ["b", "a"], "data": [["x", 1.0], ["y", None]]},
        {"columns": ["b", "a"], "index": [5, 6], "data": [["x", 1.0], ["y", None]]},
        {"a": [1.0, None], "b": ["x", "y"]},
        {"a": {"0": 1.0, "1": None}, "b": {"1": "y", "0": "x"}},
    ],
)
def test_orients_of_frames(value: Any) -> None:
    from argosy_serving.schema import parse_schema

    columns = [{"name": "a", "dtype": "float64"}, {"name": "b", "dtype": "str"}]
    schema = parse_schema({"input": {"x": {"type": "pandas", "columns": columns}}})
    made = schema.decode({"x": value})["x"]
    pd.testing.assert_frame_equal(made, pd.DataFrame({"a": [1.0, None], "b": ["x", "y"]}), check_dtype=False)
