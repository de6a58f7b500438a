"""The Open Inference Protocol, version 2: called with Triton's own client, and by hand where that is too polite."""

import json
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uv import find_uv_bin

CLIENT = "tritonclient[http]==2.73.0"
KEY = "the-primary-key"
PREFIX = "/api/v1/service/iris"
SCHEMA = {
    "input": {
        "rows": {"type": "numpy", "dtype": "float32", "shape": [None, 2]},
        "df": {"type": "pandas", "columns": [{"name": "n", "dtype": "int64"}, {"name": "word", "dtype": "str"}]},
        "threshold": {"swagger": {"type": "number"}},
    },
    "output": {"label": {"swagger": {"type": "array", "items": {"type": "string"}}}},
}
SCRIPT = """
def run(rows, df, threshold):
    return {"sum": rows.sum(axis=1) + threshold, "words": df["word"] + df["n"].astype(str), "raw": {"a": [1]}}
"""
FRAME = {
    "input": {
        "x": {
            "type": "pandas",
            "columns": [
                {"name": "a", "dtype": "float32"},
                {"name": "at", "dtype": "datetime64[us]"},
                {"name": "kind", "dtype": "category", "categories": ["a", "b"]},
            ],
        }
    }
}


def start_tcp(replica: Any) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    replica.launch(listen={"host": "127.0.0.1", "port": port})
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return port
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"not ready: {replica.log_text()}")


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.shows(
    "Inputs and outputs",
    "Open Inference Protocol v2: health, metadata, several inputs, compression",
    "`tritonclient[http]`, with and without the service's prefix",
)
def test_tritons_client(replica: Any, prefix: str) -> None:
    replica.write_image(SCRIPT, SCHEMA)
    port = start_tcp(replica)
    calls = Path(__file__).with_name("triton_calls.py")
    command = [find_uv_bin(), "run", "--quiet", "--no-project", "--python", sys.executable, "--with", CLIENT,
               "python", str(calls), f"127.0.0.1:{port}{prefix}", "iris", KEY]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=replica.folder)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [said[name] for name in ("live", "ready", "model", "version", "other")] == [True, True, True, True, False]
    assert said["server"]["name"] == "argosy" and "binary_tensor_data" in said["server"]["extensions"]
    assert said["metadata"] == {
        "name": "iris",
        "versions": ["3"],
        "platform": "argosy",
        "inputs": [
            {"name": "rows", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "df.n", "datatype": "INT64", "shape": [-1]},
            {"name": "df.word", "datatype": "BYTES", "shape": [-1]},
            {"name": "threshold", "datatype": "FP64", "shape": [1]},
        ],
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}],
    }
    whole = {"id": "r1", "model": "iris", "sum": ["3.5", "7.5"], "words": ["a5", "é6"], "raw": ['{"a":[1]}']}
    some = {name: value for name, value in whole.items() if name != "raw"}
    assert said["answers"] == [whole, whole, whole, some, some, some] * 2
    (missing, keyless, other, nope) = said["errors"]
    assert missing[0] == "400" and "this column" in missing[1]
    assert keyless[0] == "401" and other[0] == "404"
    assert nope[0] == "400" and "'nope'" in nope[1]


@pytest.fixture
def serve(replica: Any) -> Any:
    def start(script: str, schema: Any, **image: Any) -> Any:
        replica.write_image(script, schema, **image)
        replica.start()

        def infer(inputs: Any, binary: bytes | None = None, url: str = "/v2/models/iris/infer", **more: Any) -> Any:
            head = json.dumps({"inputs": inputs, **more}).encode()
            if binary is None:
                return replica.score(head, url=url)
            headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
            return replica.score(head + binary, headers, url=url)

        return infer

    return start


def tensor(name: str, datatype: str, shape: list[Any], data: Any = None, size: int | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    return made | ({"data": data} if size is None else {"parameters": {"binary_data_size": size}})


def test_frames_as_tensors(serve: Any) -> None:
    infer = serve("def run(x): return x", FRAME)
    at = tensor("at", "BYTES", [2, 1], ["2024-05-31", "2024-05-31T12:00:00Z"])
    good = [tensor("a", "FP64", [2], [1.5, 2]), at, tensor("kind", "BYTES", [2], ["b", "a"])]
    reply = infer(good, id="7")
    assert reply.status == 200, reply.body
    assert reply.json["id"] == "7" and reply.json["model_version"] == "3"
    a, moments, kinds = reply.json["outputs"]
    assert a == {"name": "a", "datatype": "FP32", "shape": [2], "data": [1.5, 2.0]}
    assert moments["datatype"] == "BYTES" and moments["data"][1].startswith("2024-05-31T12:00:00")
    assert kinds["data"] == ["b", "a"]
    assert infer([*good, tensor("more", "INT8", [2], [1, 2])]).status == 200
    for changed, pointer in (
        (tensor("kind", "BYTES", [2], ["b", "c"]), "/x/kind/1"),
        (tensor("kind", "BYTES", [3], ["b", "a", "a"]), "/inputs/2/data"),
        (tensor("kind", "BYTES", [2, 2], ["a"] * 4), "/inputs/2/data"),
        (tensor("kind", "INT64", [2], [1, 2]), "/x/kind/0"),
        (tensor("a", "BOOL", [2], [True, False]), "/inputs/2/name"),
    ):
        reply = infer([*good[:2], changed])
        assert reply.status == 400 and isinstance(reply.json["error"], str)
        assert reply.json["details"]["pointer"] == pointer, reply.body


def test_records_of_several_axes_and_bf16(serve: Any) -> None:
    """numpy has no bfloat16: what has its upper half comes in as float32, exactly."""
    schema = {
        "input": {
            "people": {"type": "numpy", "dtype": [["age", "int32"], ["name", "str"]], "shape": [None, 2]},
            "x": {"type": "numpy", "dtype": "float32", "shape": [None]},
        }
    }
    run = "def run(people, x): return [people.shape, people['name'].tolist(), str(x.dtype), x.tolist()]"
    infer = serve(run, schema)
    inputs = [
        tensor("people.age", "INT32", [1, 2], [[36, 41]]),
        tensor("people.name", "BYTES", [1, 2], ["Ada", "Bob"]),
        tensor("x", "BF16", [3], size=6),
    ]
    reply = infer(inputs, struct.pack("<3H", 0x3F80, 0xC000, 0x7F7F))
    assert reply.status == 200, reply.body
    said = json.loads(reply.json["outputs"][0]["data"][0])
    assert said[:3] == [[1, 2], [["Ada", "Bob"]], "float32"]
    assert said[3] == [1.0, -2.0, struct.unpack("<f", b"\0\0\x7f\x7f")[0]]
    assert infer([*inputs[:2], tensor("x", "BF16", [1], [1.5])]).status == 200
    short = infer([*inputs[:2], tensor("x", "BF16", [3], size=4)], b"1234")
    assert (short.status, short.json["details"]["pointer"]) == (400, "/inputs/2")
    uneven = infer([inputs[0], tensor("people.name", "BYTES", [2], ["a", "b"]), tensor("x", "FP32", [1], [1])])
    assert (uneven.status, uneven.json["details"]["pointer"]) == (400, "/people/name")


def test_bad_requests(serve: Any) -> None:
    infer = serve("def run(x): return x", {"input": {"x": {"type": "numpy", "dtype": "int8", "shape": [None, 2]}}})
    assert infer([tensor("x", "INT8", [1, 2], [1, 2])]).json["outputs"][0]["data"] == [1, 2]
    assert infer([tensor("x", "INT8", [1, 2], [[1, 2]])]).status == 200
    binary = infer(
        [tensor("x", "FP32", [1, 2], size=8)], struct.pack("<ff", 1, 2), parameters={"binary_data_output": True}
    )
    length = int(binary.headers["inference-header-content-length"])
    assert json.loads(binary.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 2}
    assert np.frombuffer(binary.body[length:], np.int8).tolist() == [1, 2]
    for inputs in (
        [tensor("x", "INT8", [1, 2], [1, 2, 3])], [tensor("x", "INT8", [1, 2], [1, 300])],
        [tensor("x", "INT8", [1, 2], [[1], [2]])], [tensor("x", "INT8", [1, 3], [1, 2, 3])],
        [tensor("x", "INT8", [1, 2], "ab")], [tensor("x", "INT8", [1, 2], None)], [tensor("x", "INT8", [-1, 2], [])],
        [tensor("x", "INT8", [2**39, 2**39], [])], [tensor("x", "INT8", [0, 2**39, 2**39], [])],
        [tensor("x", "INT8", [1.0, 2], [1, 2])], [tensor("x", "INT99", [1, 2], [1, 2])],
        [tensor("x", "FP32", [1, 2], [1.5, 2])], [tensor("x", "BYTES", [1, 2], ["a", "b"])],
        [tensor("y", "INT8", [1, 2], [1, 2])], [tensor("x", "INT8", [1, 2], [1, 2])] * 2, [], None, [3], "x",
        [{**tensor("x", "INT8", [1, 2], [1, 2]), "parameters": {"shared_memory_region": "r"}}],
        [tensor("x", "INT8", [1, 2], size=2)], [tensor("x", "INT8", [1] * 40, [1])],
    ):  # fmt: skip
        reply = infer(inputs)
        assert (reply.status, reply.json["code"]) == (400, "invalid_input"), (inputs, reply.body)
    for inputs, content in (
        ([tensor("x", "INT8", [1, 2], size=2)], b"\1"),
        ([tensor("x", "INT8", [1, 2], size=2)], b"\1\2\3"),
        ([tensor("x", "INT8", [1, 2], size=-1)], b"\1\2"),
        ([tensor("x", "FP32", [1, 2], size=8)], struct.pack("<ff", 1, float("nan"))),
        ([tensor("x", "BOOL", [1, 2], size=2)], b"\7\1"),
        ([tensor("x", "BYTES", [1, 2], size=8)], b"\xff\xff\xff\xff\0\0\0\0"),
        ([tensor("x", "BYTES", [1, 2], size=4)], b"\0\0\0\0"),
        ([tensor("x", "INT8", [2**39, 2**20], size=0)], b""),
    ):
        reply = infer(inputs, content)
        assert reply.status == 400, reply.body


@pytest.mark.parametrize("length", ["x", "-1", "9" * 30, "1000", ""])
def test_a_wrong_header_length(replica: Any, length: str) -> None:
    replica.write_image("def run(x): return x", {"input": {"x": {"swagger": {}}}})
    replica.start()
    url = f"{PREFIX}/v2/models/iris/versions/3/infer"
    assert replica.score(b"{}", {"inference-header-content-length": length}, url).status == 400


def test_plain_values_as_tensors(serve: Any) -> None:
    schema = {
        "input": {
            "image": {"swagger": {"type": "string", "format": "byte"}},
            "day": {"swagger": {"type": "string", "format": "date"}},
            "flags": {"swagger": {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}}}},
            "options": {"swagger": {"type": "object", "properties": {"k": {"type": "integer"}}}},
            "when": {"type": "numpy", "dtype": "datetime64[s]", "shape": [None]},
        }
    }
    script = "def run(image, day, flags, options, when): return repr((image, day.year, flags, options, when[0].item()))"
    infer = serve(script, schema, models={"net": {"m": b""}})
    data = b"\2\0\0\0\xff\x00"
    inputs = [
        tensor("image", "BYTES", [1], size=6), tensor("day", "BYTES", [1], ["2024-05-31"]),
        tensor("flags", "BOOL", [1, 2], [True, False]), tensor("options", "BYTES", [1], ['{"k": 1}']),
        tensor("when", "BYTES", [1], ["2024-05-31"]),
    ]  # fmt: skip
    reply = infer(inputs, data, url="/v2/models/net/versions/1/infer")
    assert reply.status == 200, reply.body
    text = r"(b'\xff\x00', 2024, [[True, False]], {'k': 1}, datetime.datetime(2024, 5, 31, 0, 0))"
    expected = {"name": "output", "datatype": "BYTES", "shape": [1], "data": [text]}
    assert reply.json == {"model_name": "net", "model_version": "1", "outputs": [expected]}
    for place, bad in (
        (1, tensor("day", "BYTES", [1], ["soon"])), (1, tensor("day", "BYTES", [2], ["2024-05-31"] * 2)),
        (2, tensor("flags", "INT8", [1, 2], [1, 0])), (3, tensor("options", "BYTES", [1], ["{"])),
        (3, tensor("options", "BYTES", [1], ['{"k": "x"}'])), (4, tensor("when", "BYTES", [1], ["soon"])),
    ):  # fmt: skip
        changed = [*inputs[:place], bad, *inputs[place + 1 :]]
        assert infer(changed, data).status == 400, bad


def test_who_may_ask_what(replica: Any) -> None:
    replica.write_image("def run(raw): return raw")
    replica.start(behind_gateway=True)
    for base in ("/v2", f"{PREFIX}/v2"):
        for free in ("/health/live", "/health/ready", "/models/iris/ready", "/models/iris/versions/3/ready"):
            assert replica.get(base + free).status == 200
        for guarded in ("", "/models/iris", "/models/iris/versions/3"):
            assert replica.get(base + guarded).status == 401
            assert replica.get(base + guarded, {"authorization": f"Bearer {KEY}"}).status == 200
        assert replica.score(b"{}", {"authorization": ""}, f"{base}/models/iris/infer").status == 401
        for absent in ("/models/iris/versions/9/ready", "/models/other", "/repository/index"):
            reply = replica.get(base + absent)
            assert reply.status == 404 and isinstance(reply.json["error"], str)
        reply = replica.score(b"{}", url=f"{base}/models/iris/infer")
        assert (reply.status, reply.json["code"]) == (400, "invalid_input") and "schema" in reply.json["error"]


ANSWERS = """
import numpy as np, pandas as pd, decimal
VALUES = {
    "scalar": 1.5, "none": None, "nan": np.array([np.nan, 1]), "half": np.array([1.5], "f2"), "bools": [True, False],
    "mixed": [1, "a"], "ragged": [[1], [1, 2]], "bytes": b"\\xff", "date": np.array(["2024-05-31"], "M8[D]"),
    "empty": [], "decimal": [decimal.Decimal("1.5")], "record": np.array([(1, "a")], [("i", "i4"), ("s", "U1")]),
    "strided": np.arange(6)[::2], "big": np.arange(2, dtype=">i4"), "wide": np.array([1.5], "longdouble"),
}
def run(x): return VALUES[x]
"""


def test_answers_as_tensors(serve: Any) -> None:
    infer = serve(ANSWERS, {"input": {"x": {"swagger": {"type": "string"}}}})

    def ask(name: str) -> Any:
        reply = infer([tensor("x", "BYTES", [1], [name])])
        assert reply.status == 200, (name, reply.body)
        (output,) = reply.json["outputs"]
        return [output["datatype"], output["shape"], output["data"]]

    assert ask("scalar") == ["FP64", [1], [1.5]]
    assert ask("none") == ["BYTES", [1], ["null"]]
    assert ask("nan") == ["FP64", [2], [None, 1.0]]
    assert ask("half") == ["FP16", [1], [1.5]]
    assert ask("bools") == ["BOOL", [2], [True, False]]
    assert ask("mixed") == ["BYTES", [2], ["1", "a"]]
    assert ask("ragged") == ["BYTES", [1], ["[[1],[1,2]]"]]
    assert ask("date") == ["BYTES", [1], ["2024-05-31"]]
    assert ask("empty") == ["FP64", [0], []]
    assert ask("decimal") == ["BYTES", [1], ["1.5"]]
    assert ask("record") == ["BYTES", [1], ['[1,"a"]']]
    assert ask("strided") == ["INT64", [3], [0, 2, 4]]
    assert ask("big") == ["INT32", [2], [0, 1]]
    assert ask("wide") == ["FP64", [1], [1.5]]
    reply = infer([tensor("x", "BYTES", [1], ["bytes"])])
    assert (reply.status, reply.json["code"]) == (406, "not_acceptable")
    reply = infer(
        [tensor("x", "BYTES", [1], ["bytes"])], outputs=[{"name": "output", "parameters": {"binary_data": True}}]
    )
    assert reply.body.endswith(b"\1\0\0\0\xff")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_generators_answer_as_a_whole(serve: Any, kind: str) -> None:
    infer = serve(f"{kind} run(x):\n  for n in range(x): yield n", {"input": {"x": {"swagger": {"type": "integer"}}}})
    (output,) = infer([tensor("x", "INT64", [1], [3])]).json["outputs"]
    assert output == {"name": "output", "datatype": "INT64", "shape": [3], "data": [0, 1, 2]}
