"""Generators: how their items are sent, and what ends a stream. A real replica, and raw sockets for the wire."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NUMBER = {"input": {"n": {"type": "standard", "swagger": {"type": "integer"}, "example": 2}}}
EVENTS = {"accept": "text/event-stream"}
KEY = "the-primary-key"


@contextmanager
def asked(path: Path, body: Any, *headers: str, http: str = "1.1") -> Iterator[socket.socket]:
    """A connection on which a score request has been sent."""
    raw = json.dumps(body).encode()
    lines = [
        f"POST /score HTTP/{http}",
        "host: r",
        f"authorization: Bearer {KEY}",
        f"content-length: {len(raw)}",
        *headers,
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + raw)
        yield connection


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    found = b""
    while mark not in found:
        piece = connection.recv(65536)
        if not piece:
            break
        found += piece
    return found


def test_items_are_lines_of_json(replica: Any) -> None:
    replica.write_image(
        "import numpy as np\ndef run(n):\n  for i in range(n):\n    yield {'i': np.int64(i), 'text': 'a\\nb'}",
        NUMBER, [{"input": {"n": 2}, "output": [{"i": 0, "text": "a\nb"}, {"i": 1, "text": "a\nb"}]}],
    )  # fmt: skip
    replica.start()
    reply = replica.score({"n": 3}, {"x-request-id": "s1"})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-ndjson")
    assert reply.headers["transfer-encoding"] == "chunked" and reply.headers["x-request-id"] == "s1"
    assert [json.loads(line) for line in reply.body.splitlines()] == [{"i": i, "text": "a\nb"} for i in range(3)]
    empty = replica.score({"n": 0})
    assert (empty.status, empty.body) == (200, b"")
    assert replica.score({"n": "x"}).status == 400


def test_items_are_events_when_asked_for(replica: Any) -> None:
    replica.write_image("def run(n):\n  for i in range(n):\n    yield 'tok' if i else {'i': 1}", NUMBER)
    replica.start()
    reply = replica.score({"n": 2}, EVENTS)
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.body == b'data: {"i":1}\n\ndata: "tok"\n\n'


def test_raw_strings_and_bytes_are_sent_as_they_are(make_replica: Callable[[], Any]) -> None:
    texts = make_replica()
    texts.write_image("def run(n):\n  yield 'a\\nb'\n  yield 'c'", NUMBER, serving={"string_answers": "raw"})
    texts.start()
    reply = texts.score({"n": 1})
    assert (reply.headers["content-type"], reply.body) == ("text/plain; charset=utf-8", b"a\nbc")
    assert texts.score({"n": 1}, EVENTS).body == b"data: a\ndata: b\n\ndata: c\n\n"
    binary = make_replica()
    binary.write_image("def run(n):\n  yield b'\\x00\\xff'\n  yield b'\\r\\n'", NUMBER)
    binary.start()
    reply = binary.score({"n": 1}, EVENTS)
    assert (reply.headers["content-type"], reply.body) == ("application/octet-stream", b"\x00\xff\r\n")


def test_every_kind_of_generator(make_replica: Callable[[], Any]) -> None:
    scripts = {
        "async generator": "import asyncio\nasync def run(n):\n  for i in range(n):\n"
        "    await asyncio.sleep(0)\n    yield i",
        "async def that returns one": "async def items(n):\n  for i in range(n): yield i\n"
        "async def run(n): return items(n)",
        "def that returns an async one": "async def items(n):\n  for i in range(n): yield i\n"
        "def run(n): return items(n)",
        "async def that returns a plain one": "async def run(n): return (i for i in range(n))",
        "def that returns a plain one": "def run(n): return (i for i in range(n))",
    }
    for title, script in scripts.items():
        replica = make_replica()
        replica.write_image(script, NUMBER, [{"input": {"n": 2}, "output": [0, 1]}])
        replica.start()
        assert replica.score({"n": 3}).body == b"0\n1\n2\n", title
        replica.stop()


def test_the_first_item_arrives_before_the_second_is_made(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image(
        "import os, time\ndef run(n):\n  yield 'first'\n  while not os.path.exists('go'): time.sleep(0.01)\n"
        "  yield 'second'", NUMBER,
    )  # fmt: skip
    replica.start()
    with asked(replica.sock, {"n": 1}) as connection:
        assert b'"first"' in read_until(connection, b'"first"\n\r\n')
        assert replica.admin("GET", "/status").json["in_flight"] == 1, "the slot is held until the stream ends"
        (replica.folder / "scratch" / "go").touch()
        assert read_until(connection, b"0\r\n\r\n").endswith(b'"second"\n\r\n0\r\n\r\n')
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)


def test_callers_of_http_1_0_get_a_body_without_chunks(replica: Any) -> None:
    replica.write_image("def run(n):\n  for i in range(n):\n    yield i", NUMBER)
    replica.start()
    with asked(replica.sock, {"n": 3}, http="1.0") as connection:
        head, _, body = read_until(connection, b"never").partition(b"\r\n\r\n")
    assert body == b"0\n1\n2\n" and b"transfer-encoding" not in head and b"connection: close" in head


def test_an_error_before_the_first_item_is_an_error_like_any_other(replica: Any) -> None:
    replica.write_image("def run(n):\n  if n: raise ValueError('no')\n  yield 1", NUMBER)
    replica.start()
    reply = replica.score({"n": 1}, EVENTS)
    assert (reply.status, reply.error["code"]) == (500, "scoring_failed")
    assert replica.score({"n": 0}).body == b"1\n"


def test_an_error_after_it_is_the_last_record_and_the_body_is_cut_off(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image("def run(n):\n  yield 1\n  raise ValueError('secret')", NUMBER)
    replica.start()
    with asked(replica.sock, {"n": 1}, "x-request-id: s9") as connection:
        everything = read_until(connection, b"never")
    assert b'{"error":{"code":"scoring_failed"' in everything and b"s9" in everything
    assert b"secret" not in everything and not everything.endswith(b"0\r\n\r\n"), "no client takes it for whole"
    with asked(replica.sock, {"n": 1}, "accept: text/event-stream") as connection:
        assert b'event: error\ndata: {"error":{"code":"scoring_failed"' in read_until(connection, b"never")
    assert any("secret" in entry.get("exception", "") and entry["request_id"] == "s9" for entry in replica.log())
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)


CLOSING = (
    "def run(n):\n  try:\n    while True:\n      yield 'x' * n\n      time.sleep(0.005)\n"
    "  finally:\n    open('closed', 'w').close()"
)
ASYNC_CLOSING = (
    "import asyncio\nasync def run(n):\n  try:\n    yield 'one'\n    await asyncio.sleep(600)\n"
    "  finally:\n    open('closed', 'w').close()"
)


def test_a_caller_who_goes_closes_the_generator(make_replica: Callable[[], Any], until: Callable[..., Any]) -> None:
    for script in (f"import time\n{CLOSING}", ASYNC_CLOSING):
        replica = make_replica()
        replica.write_image(script, NUMBER)
        replica.start()
        with asked(replica.sock, {"n": 1}) as connection:
            read_until(connection, b"\r\n\r\n")
        until(lambda place=replica.folder: (place / "scratch" / "closed").exists())
        until(lambda one=replica: one.admin("GET", "/status").json["in_flight"] == 0)
        assert replica.get("/readyz").status == 200


def test_the_deadline_ends_a_stream(make_replica: Callable[[], Any], until: Callable[..., Any]) -> None:
    for script in (f"import time\n{CLOSING}", ASYNC_CLOSING):
        replica = make_replica()
        replica.write_image(script, NUMBER)
        replica.start()
        with asked(replica.sock, {"n": 1}, "x-request-timeout-ms: 300") as connection:
            everything = read_until(connection, b"never")
        assert everything.startswith(b"HTTP/1.1 200") and not everything.endswith(b"0\r\n\r\n")
        assert b'{"error":{"code":"timeout"' in everything
        until(lambda place=replica.folder: (place / "scratch" / "closed").exists())
        until(lambda one=replica: one.admin("GET", "/status").json["in_flight"] == 0)


def test_a_reader_who_stops_reading_stops_the_generator_too(replica: Any, until: Callable[..., Any]) -> None:
    """At most a few chunks are made ahead, and the deadline frees the slot."""
    replica.write_image(f"import time\n{CLOSING.replace('time.sleep(0.005)', 'count()')}\n"
                        "made = 0\ndef count():\n  global made\n  made += 1\n  open('made', 'w').write(str(made))",
                        NUMBER)  # fmt: skip
    replica.start()
    with asked(replica.sock, {"n": 1_000_000}, "x-request-timeout-ms: 1500") as connection:
        connection.recv(100)
        until(lambda: (replica.folder / "scratch" / "closed").exists())
        assert int((replica.folder / "scratch" / "made").read_text()) < 50
        until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)


def test_a_drain_waits_for_a_stream(replica: Any) -> None:
    replica.write_image("import time\ndef run(n):\n  for i in range(n):\n    yield i\n    time.sleep(0.1)", NUMBER)
    replica.start()
    with asked(replica.sock, {"n": 5}) as connection:
        read_until(connection, b"0\n")
        started = time.monotonic()
        replica.admin("POST", "/drain", {"grace_s": 0})
        assert read_until(connection, b"0\r\n\r\n").endswith(b"4\n\r\n0\r\n\r\n")
        assert time.monotonic() > started
    assert replica.wait() == 0
