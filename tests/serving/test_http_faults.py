"""Connections and requests that go wrong half way: nothing runs for nobody, and nothing is left behind."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from argosy_serving.admission import Entry
from argosy_serving.listener import Listener
from argosy_serving.messages import JSON_TYPE, Answer, Request
from argosy_serving.scoring import Work
from argosy_serving.spec import Address
from argosy_serving.workers import LoopTasks
from serving.wire import AUTH, BODY, PLAIN, connected, post, read_one

COUNTING = "ran = []\ndef run(x):\n    ran.append(x)\n    return len(ran)"
CHUNKED = b"POST /score HTTP/1.1\r\nHost: x\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def counting(replica: Any) -> Any:
    """Answers how many requests it has run."""
    replica.write_image(COUNTING, PLAIN)
    replica.write_settings(max_body_bytes=100_000)
    return replica.start()


def in_flight(replica: Any) -> int:
    found: int = replica.admin("GET", "/status").json["in_flight"]
    return found


def test_nothing_runs_behind_an_answer_that_closes(counting: Any) -> None:
    with connected(counting) as client:
        client.sendall(CHUNKED)
        time.sleep(0.2)
        client.sendall(b"20000\r\n" + b" " * 0x20000 + b"\r\n0\r\n\r\n" + post(BODY) * 3)
        status, headers, _ = read_one(client)
        assert (status, headers["connection"]) == (413, "close")
        assert client.recv(1) == b""
    assert counting.score({"x": 1}).json == 1, "the requests behind it never ran"


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (CHUNKED + b"0\r\n", b"X-More: " + b"a" * 1000 + b"\r\n"),
        (CHUNKED + b"0\r\nX-One: ", b"a" * 1000),
        (CHUNKED + b"5;name=", b"a" * 1000),
        (b"", b"\r\n" * 500),
    ],
    ids=["trailers", "one trailer", "chunk extension", "empty lines"],
)
def test_what_never_ends_is_cut_off(counting: Any, begin: bytes, again: bytes) -> None:
    with connected(counting) as client:
        client.sendall(begin)
        time.sleep(0.1)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            client.sendall(again * 20_000)
    assert in_flight(counting) == 0
    assert counting.score({"x": 1}).status == 200


def test_a_tunnel_is_refused_and_closed(counting: Any) -> None:
    with connected(counting) as client:
        client.sendall(b"CONNECT /livez HTTP/1.1\r\nHost: x\r\n\r\nwhat a tunnel would carry")
        status, headers, _ = read_one(client)
        assert (status, headers["connection"]) == (405, "close")
        assert client.recv(1) == b""


def test_another_protocol_with_a_body_nobody_can_frame(counting: Any) -> None:
    with connected(counting) as client:
        client.sendall(
            CHUNKED.replace(b"chunked\r\n", b"gzip\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n") + b"more" + post(BODY)
        )
        assert read_one(client)[0] == 400
        assert client.recv(1) == b""


def test_http_1_0_knows_no_continue(counting: Any) -> None:
    with connected(counting) as client:
        client.sendall(post(BODY, b"Expect: 100-continue")[: -len(BODY)].replace(b"HTTP/1.1", b"HTTP/1.0"))
        time.sleep(0.2)
        client.sendall(BODY)
        assert read_one(client)[0] == 200


def test_a_drain_with_requests_behind_the_one_at_work(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image("import time\ndef run(x):\n    time.sleep(1)\n    return x", PLAIN)
    replica.start()
    with connected(replica) as client:
        client.sendall(post(BODY) + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
        until(lambda: in_flight(replica) == 1)
        replica.admin("POST", "/drain", {"grace_s": 0})
        status, headers, _ = read_one(client)
        assert (status, headers["connection"]) == (200, "close")
        assert client.recv(1) == b""
    assert replica.wait() == 0
    assert "xception" not in replica.log_text()


def test_a_drain_waits_until_answers_are_read(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image("def run(x): return 'x' * x", PLAIN)
    replica.start()
    with connected(replica) as client:
        client.sendall(post(json.dumps({"x": 8_000_000}).encode()))
        first = client.recv(1)
        until(lambda: in_flight(replica) == 0)
        replica.admin("POST", "/drain", {"grace_s": 0})
        time.sleep(0.5)
        received = len(first)
        while piece := client.recv(1_000_000):
            received += len(piece)
        assert received > 8_000_000, "all of it"
    assert replica.wait() == 0


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_stream_that_begins_after_its_caller_left(replica: Any, until: Callable[..., Any], kind: str) -> None:
    wait = "time.sleep(0.01)" if kind == "def" else "await asyncio.sleep(0.01)"
    replica.write_image(
        f"import asyncio, os, time\n{kind} run(x):\n  open('began', 'w').close()\n  try:\n"
        f"    while not os.path.exists('go'): {wait}\n    while True: yield x\n"
        "  finally: open('closed', 'w').close()",
        PLAIN,
    )
    replica.start()
    with connected(replica) as client:
        client.sendall(post(BODY))
        until(lambda: (replica.folder / "scratch" / "began").exists())
    (replica.folder / "scratch" / "go").touch()
    until(lambda: (replica.folder / "scratch" / "closed").exists())
    until(lambda: in_flight(replica) == 0)


def test_a_script_that_cancels_itself(replica: Any) -> None:
    replica.write_image(
        "import asyncio\nasync def run(x):\n  if x: raise asyncio.CancelledError()\n  return x\n", PLAIN
    )
    replica.start()
    reply = replica.score({"x": 1})
    assert (reply.status, reply.error["code"]) == (500, "scoring_failed")
    assert replica.score({"x": 0}).status == 200


def test_a_stream_that_cancels_itself_is_cut_off(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image("import asyncio\nasync def run(x):\n  yield x\n  raise asyncio.CancelledError()\n", PLAIN)
    replica.start()
    with connected(replica) as client:
        client.sendall(post(BODY))
        everything = b""
        while piece := client.recv(65536):
            everything += piece
    assert b"scoring_failed" in everything and not everything.endswith(b"0\r\n\r\n")
    until(lambda: in_flight(replica) == 0)


class Sleeper:
    """A scorer whose work takes long."""

    async def score_async(self, work: Work) -> None:
        await asyncio.sleep(60)


def test_a_task_given_up_before_its_first_step_frees_its_slot() -> None:
    async def life() -> None:
        finished: list[Entry] = []
        scorer: Any = Sleeper()
        tasks = LoopTasks(asyncio.get_running_loop(), 1, finished.append, lambda entry: None, scorer)
        entries = [Entry(Work(b"", {}, str(n), ""), 0.0, 0.0, lambda: False, lambda *_: None) for n in range(2)]
        for entry in entries:
            tasks.submit(entry)
        tasks.give_up(entries[0])
        await asyncio.sleep(0.05)
        assert finished == [entries[0]]
        assert entries[1].work.started_at, "the next one has its slot"
        tasks.give_up(entries[1])
        await asyncio.sleep(0.05)
        assert finished == entries

    asyncio.run(life())


def test_a_handler_that_fails_is_answered_for(tmp_path: Path) -> None:
    def handle(request: Request) -> None:
        if request.path == "/fail":
            raise RuntimeError("a defect")
        request.respond(Answer(200, JSON_TYPE, b"1"))

    def ask(path: str) -> list[tuple[int, dict[str, str], bytes]]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(path)
            client.sendall(b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % name for name in (b"/a", b"/fail", b"/b")))
            return [read_one(client) for _ in range(3)]

    async def life() -> list[tuple[int, dict[str, str], bytes]]:
        path = str(tmp_path / "sock")
        listener = Listener(handle, Address(unix=path))
        await listener.open()
        answers = await asyncio.to_thread(ask, path)
        await listener.close()
        return answers

    answers = asyncio.run(life())
    assert [status for status, _, _ in answers] == [200, 500, 200]
    assert json.loads(answers[1][2])["error"]["code"] == "server_failed"
