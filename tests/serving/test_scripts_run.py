"""Scoring scripts of every style, and what they print and log, against a real replica."""

import json
import logging
from collections.abc import Callable
from typing import Any

PLAIN = {"input": {"x": {"type": "standard", "swagger": {"type": "number"}, "example": 1}}}
FRAME = {
    "input": {
        "input_df": {
            "internal": "gASVJAAAAAAAAACMCGJ1aWx0aW5zlIwEZXZhbJSTlIwIMS8wICMgbm8hlIWUUpQu",
            "swagger": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "sepal length": {"type": "number", "format": "double"},
                        "sepal width": {"type": "number", "format": "double"},
                    },
                },
                "example": [{"sepal length": 3.0, "sepal width": 3.6}],
            },
            "type": 3,
        }
    }
}


def test_2017_style(replica: Any) -> None:
    """A string of JSON is encoded once more, as those servers did; the pickled part of the schema is never loaded."""
    replica.write_image(
        "import json\ndef init():\n  global model\n  model = open('model.pkl').read()\n"
        "def run(input_df):\n  return json.dumps([list(input_df.columns), input_df.to_numpy().tolist(), model])",
        FRAME, models={"iris": {"model.pkl": b"weights"}},
    )  # fmt: skip
    replica.start()
    reply = replica.score({"input_df": [{"sepal width": 3, "sepal length": 1.5, "extra": None}]})
    assert reply.status == 200
    assert reply.body == rb'"[[\"sepal length\", \"sepal width\"], [[1.5, 3.0]], \"weights\"]"'
    assert reply.headers["content-type"] == "application/json"


def test_raw_string_answers(replica: Any) -> None:
    replica.write_image(
        "import json\ndef run(x): return json.dumps({'a': x}) if x else 'plain words'",
        PLAIN, [{"input": {"x": 1}, "output": {"a": 1}}], serving={"string_answers": "raw"},
    )  # fmt: skip
    replica.start()
    reply = replica.score({"x": 2})
    assert (reply.json, reply.headers["content-type"]) == ({"a": 2}, "application/json")
    reply = replica.score({"x": 0})
    assert (reply.body, reply.headers["content-type"]) == (b"plain words", "text/plain; charset=utf-8")


def test_azure_style_without_a_schema(replica: Any) -> None:
    replica.write_image(
        "import json, os\ndef init():\n  global model\n"
        "  model = open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'm.txt')).read()\n"
        "def run(raw_data):\n"
        "  return {'n': len(json.loads(raw_data)['data']), 'model': model, 't': type(raw_data).__name__}",
        samples=[{"input": {"data": [1]}}, {"input": '{"data": []}'}], models={"iris": {"m.txt": b"w"}},
    )  # fmt: skip
    replica.start()
    assert replica.score({"data": [1, 2]}, {"content-type": "application/weird"}).json == {
        "n": 2, "model": "w", "t": "str",
    }  # fmt: skip
    assert replica.score(b"\xff").error["details"]["expected"] == "text in UTF-8"


def test_raw_bytes_and_request_headers(replica: Any) -> None:
    replica.write_image("def run(body: bytes, request_headers): return [len(body), request_headers['x-a']]")
    replica.start()
    assert replica.score(b"\xff\xfe", {"x-a": "1", "content-type": "image/png"}).json == [2, "1"]


def test_several_inputs_of_several_types(replica: Any) -> None:
    schema = {
        "input": {
            "rows": {"type": "numpy", "dtype": "int32", "shape": [None]},
            "image": {"type": "standard", "swagger": {"type": "string", "format": "byte"}},
            "when": {"type": "standard", "swagger": {"type": "string", "format": "date"}},
        }
    }
    replica.write_image(
        "def run(when, image, rows): return {'sum': rows.sum(), 'image': image, 'when': when, 'nan': float('nan')}",
        schema,
    )
    replica.start()
    body = {"when": "2024-05-31", "rows": [1, 2], "image": "aGk="}
    assert replica.score(body).json == {"sum": 3, "image": "aGk=", "when": "2024-05-31", "nan": None}
    assert replica.score({**body, "rows": [1, 1.7]}).error["details"]["pointer"] == "/rows/1"
    assert replica.score({**body, "image": "?"}).error["details"]["expected"] == "bytes in base64"
    assert replica.score({**body, "when": "soon"}).status == 400


def test_async_run(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image(
        "import asyncio\nasync def init():\n  global lock\n  lock = asyncio.Lock()\n"
        "async def run(x):\n  async with lock:\n    print('in async')\n  await asyncio.sleep(x)\n  return x",
        PLAIN, [{"input": {"x": 0}}],
    )  # fmt: skip
    replica.write_settings(request_timeout_ms=2000, max_queue_wait_ms=5000, max_queued_requests=1)
    replica.start(slots=2)
    assert replica.score({"x": 0.01}, {"x-request-id": "a1"}).json == 0.01
    assert any(e["message"] == "in async" and e["request_id"] == "a1" for e in replica.log())
    assert replica.score({"x": 30}).status == 504
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)
    slow = [replica.aside({"x": 0.3}) for _ in range(3)]
    until(lambda: replica.admin("GET", "/status").json["queued"] == 1)
    assert replica.score({"x": 0}).error["code"] == "queue_full"
    until(lambda: all(slow))
    assert [one[0].status for one in slow] == [200] * 3


def test_init_and_run_share_a_thread(replica: Any) -> None:
    replica.write_image(
        "import threading\ndef init():\n  global name\n  name = threading.current_thread().name\n"
        "def run(x): return [name, threading.current_thread().name]", PLAIN,
    )  # fmt: skip
    replica.start()
    assert replica.score({"x": 1}).json == ["slot-0", "slot-0"]


PRINTING = """
import ctypes, logging, os, sys, threading, warnings
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
def init():
    print("in init")
def run(x):
    print("one", "two", sep="-")
    print("no newline", end="")
    print("to stderr", file=sys.stderr)
    print("")
    logging.getLogger("mine").warning("logged %d", x)
    logging.getLogger("mine").debug("too quiet")
    logging.getLogger("mine").info("wrong %d %d", "arguments")
    warnings.warn("old way")
    thread = threading.Thread(target=print, args=("in a thread",))
    thread.start()
    thread.join()
    pool.submit(print, "in a pool").result()
    os.write(1, b"straight to the descriptor\\n")
    sys.stdout.buffer.write(b"bytes\\n")
    print("caf\\u00e9 \\ud800")
    return x
"""


def test_prints_and_logs_carry_the_request(replica: Any) -> None:
    replica.write_image(PRINTING, PLAIN)
    replica.start()
    for request_id in ("first", "second"):
        assert replica.score({"x": 7}, {"x-request-id": request_id}).status == 200
    lines = replica.log()
    assert [e["request_id"] for e in lines if e["message"] == "in init"] == [""]
    for request_id in ("first", "second"):
        mine = {(e["logger"], e["message"]): e for e in lines if e["request_id"] == request_id}
        for expected in (("stdout", "one-two"), ("stdout", "no newline"), ("stderr", "to stderr"),
                         ("mine", "logged 7"), ("stdout", "in a thread"), ("stdout", "in a pool")):  # fmt: skip
            assert expected in mine, expected
        if request_id == "first":  # Python shows a warning once per place
            assert any(e["logger"] == "py.warnings" and "old way" in e["message"] for e in mine.values())
        assert any("arguments that do not fit" in e["message"] for e in mine.values())
        assert any(e["message"].startswith("caf\u00e9") for e in mine.values())
    assert not any(e["message"] == "too quiet" for e in lines)
    entry = next(e for e in lines if e["message"] == "logged 7")
    assert (entry["level"], entry["replica"], entry["service"], entry["revision"]) == (
        "warning",
        "iris-1-abc",
        "iris",
        3,
    )
    assert entry["timestamp"].endswith("+00:00")
    text = replica.log_text()
    assert "\nstraight to the descriptor\n" in text
    assert "\nbytes\n" in text
    assert (replica.folder / "log").stat().st_mode & 0o777 == 0o600


def test_the_log_is_rotated(replica: Any) -> None:
    replica.write_image("def run(x):\n  for n in range(20): print('x' * 100)\n  return x", PLAIN)
    replica.start(log_limit_bytes=10_000)
    for _ in range(12):
        assert replica.score({"x": 1}).status == 200
    older = replica.folder / "log.1"
    assert 10_000 <= older.stat().st_size < 20_000
    assert (replica.folder / "log").stat().st_size < 12_000
    assert all(json.loads(line) for line in older.read_text().splitlines())


def test_a_full_disk_breaks_no_print(replica: Any) -> None:
    replica.write_image(
        "import logging\ndef run(x):\n  print('lost')\n  logging.warning('lost too')\n  return x", PLAIN
    )
    (replica.folder / "log").symlink_to("/dev/full")
    replica.start()
    assert replica.score({"x": 1}).json == 1
    assert replica.stop() == 0


def test_settings_are_followed(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image("import logging\ndef run(x):\n  logging.debug('whisper')\n  return x", PLAIN)
    replica.start()
    replica.write_settings(generation=2, keys=["0" * 64])
    assert replica.admin("POST", "/reload").json == {"generation": 2}
    assert replica.score({"x": 1}).status == 401
    replica.write_settings(generation=3, auth=False, log_level="debug", max_body_bytes=100)
    until(lambda: replica.admin("GET", "/status").json["generation"] == 3)
    assert replica.score({"x": 1}, {"authorization": ""}).status == 200
    assert any(e["message"] == "whisper" for e in replica.log())
    assert replica.score(b" " * 101).status == 413
    for bad in (
        "{",
        "[]",
        '{"generation": "4"}',
        '{"keys": [1]}',
        '{"request_timeout_ms": 0}',
        '{"overload_status": 200}',
    ):
        (replica.folder / "settings.json").write_text(bad)
        assert replica.admin("POST", "/reload").json == {"generation": 3}
    (replica.folder / "settings.json").unlink()
    assert replica.admin("POST", "/reload").json == {"generation": 3}
    assert replica.score({"x": 1}).status == 200
    assert [e for e in replica.log() if "last good ones stay" in e["message"]]
    assert logging.getLogger("argosy").level == 0, "nothing of this leaks into the test process"


def test_admin_refuses_nonsense(replica: Any) -> None:
    replica.write_image("def run(x): return x", PLAIN)
    replica.start()
    assert replica.admin("GET", "/nothing").status == 404
    nonsense: list[Any] = [{"grace_s": -1}, {"grace_s": "1"}, [], {"grace_s": True}]
    for bad in nonsense:
        assert replica.admin("POST", "/drain", bad).status == 400
    assert replica.admin("GET", "/status").json["state"] == "ready"
