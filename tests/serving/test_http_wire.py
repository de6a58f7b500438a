"""HTTP by the byte: what a hostile or clumsy caller may send, against a real replica."""

import contextlib
import http.client
import json
import resource
import socket
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from serving.wire import AUTH, BODY, PLAIN, connected, post, read_one


@pytest.fixture
def running(replica: Any) -> Any:
    replica.write_image("def run(x): return len(x)", PLAIN)
    replica.write_settings(max_body_bytes=200_000, request_timeout_ms=1500)
    return replica.start()


def test_keep_alive_and_pipelining(running: Any) -> None:
    with connected(running) as client:
        client.sendall(post(BODY) * 5)
        for _ in range(5):
            assert read_one(client)[::2] == (200, b"3")
        client.sendall(post(BODY, b"Connection: close"))
        status, headers, _ = read_one(client)
        assert (status, headers["connection"]) == (200, "close")
        assert client.recv(1) == b""


def test_http_1_0(running: Any) -> None:
    with connected(running) as client:
        client.sendall(post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert read_one(client)[1]["connection"] == "close"
        assert client.recv(1) == b""


def test_chunked_bodies(running: Any) -> None:
    with connected(running) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n")
        for part in (BODY[:4], BODY[4:]):
            time.sleep(0.05)
            client.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        client.sendall(b"0\r\n\r\n")
        assert read_one(client)[::2] == (200, b"3")
        client.sendall(post(BODY))
        assert read_one(client)[0] == 200


def test_an_announced_body_that_is_too_large(running: Any) -> None:
    """Refused by its length, before it is read; a caller who is still sending gets the answer, not a reset."""
    with connected(running) as client:
        client.sendall(post(b"", b"X: y").replace(b"Content-Length: 0", b"Content-Length: 200001"))
        status, headers, body = read_one(client)
        assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")
        assert headers["connection"] == "close"
    with connected(running) as client:
        client.sendall(post(b"x" * 3_000_000))
        assert read_one(client)[0] == 413
        assert client.recv(1) == b""
    with connected(running) as client:
        client.sendall(post(b"", b"Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 999999999"))
        assert read_one(client)[0] == 413


def test_a_chunked_body_that_is_too_large(running: Any) -> None:
    with connected(running) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(30):
            client.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        assert read_one(client)[0] == 413


def test_expect_continue(running: Any) -> None:
    with connected(running) as client:
        client.sendall(post(BODY, b"Expect: 100-continue")[: -len(BODY)])
        assert read_one(client)[0] == 100
        client.sendall(BODY)
        assert read_one(client)[0] == 200
    with connected(running) as client:
        client.sendall(post(BODY, b"Expect: 100-continue")[: -len(BODY)].replace(AUTH, b""))
        assert read_one(client)[0] == 401


def test_a_slow_body(running: Any) -> None:
    with connected(running) as client:
        client.sendall(post(BODY)[:-2])
        status, headers, body = read_one(client)
        assert (status, json.loads(body)["error"]["code"]) == (408, "body_timeout")
        assert headers["connection"] == "close"
    assert running.score({"x": [1]}).status == 200


def test_a_body_that_never_ends(running: Any) -> None:
    with connected(running) as client:
        client.sendall(post(BODY)[:-2])
    assert running.admin("GET", "/status").json["in_flight"] == 0
    assert running.score({"x": [1]}).status == 200


def test_a_head_without_end(running: Any) -> None:
    with connected(running) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            client.sendall(b"a" * 5_000_000)
    assert running.get("/livez").status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http(running: Any, raw: bytes) -> None:
    with connected(running) as client:
        client.sendall(raw)
        first = client.recv(65536)
        assert first.split(b" ")[1][:1] in (b"4", b"3"), first
    assert running.get("/livez").status == 200


def test_deep_nesting_is_a_400(running: Any) -> None:
    assert running.score(b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}").status == 400


def test_requests_before_garbage_are_answered(running: Any) -> None:
    with connected(running) as client:
        client.sendall(post(BODY) + post(BODY) + b"\x00\x01 what is this\r\n\r\n" + post(BODY))
        assert [read_one(client)[0] for _ in range(3)] == [200, 200, 400]
        assert client.recv(1) == b"", "nothing behind it is understood"


def test_chunks_that_are_none_after_a_good_head(running: Any) -> None:
    with connected(running) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n5\r\n")
        time.sleep(0.1)
        client.sendall(b"12345zz")
        status, headers, body = read_one(client)
        assert (status, json.loads(body)["error"]["code"]) == (400, "bad_request")
        assert headers["connection"] == "close"
    assert running.admin("GET", "/status").json["in_flight"] == 0


def test_a_trailer_is_no_header(running: Any) -> None:
    """A key that comes after the body comes too late."""
    with connected(running) as client:
        client.sendall(
            b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n"
            b"d\r\n" + BODY + b"\r\n0\r\n" + AUTH + b"\r\n"
        )
        assert read_one(client)[0] == 401


def test_who_asks_for_another_protocol_gets_http(running: Any) -> None:
    """Java's client asks for HTTP/2 with its first request, and goes on with what it gets."""
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
    with connected(running) as client:
        client.sendall(post(BODY, *upgrade) + post(BODY))
        assert [read_one(client)[::2] for _ in range(2)] == [(200, b"3")] * 2
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(upgrade) + b"\r\n\r\n" + post(BODY))
        assert [read_one(client)[0] for _ in range(2)] == [200, 200]
    with connected(running) as client:
        client.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
        assert read_one(client)[0] == 400
    with connected(running) as client:
        many = 1500
        client.sendall((b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(upgrade[:2]) + b"\r\n\r\n") * many)
        assert [read_one(client)[0] for _ in range(many)] == [200] * many


def test_head_and_bodies_nobody_asked_for(running: Any) -> None:
    with connected(running) as client:
        client.sendall(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(65536)
        assert b"content-length: 18\r\n" in head
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody" + post(BODY))
        assert [read_one(client)[0] for _ in range(2)] == [200, 200]
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\nbody")
        status, headers, _ = read_one(client)
        assert (status, headers["connection"]) == (200, "close"), "answered without waiting for the rest"


def test_a_long_head_in_pieces(running: Any) -> None:
    with connected(running) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\n")
        for number in range(200):
            try:
                client.sendall(b"X-%d: " % number + b"a" * 1000 + b"\r\n")
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.001)
        status, _, body = read_one(client)
        assert (status, json.loads(body)["error"]["code"]) == (431, "head_too_large")


def test_a_head_of_one_byte_at_a_time(running: Any) -> None:
    with connected(running) as client:
        for byte in post(BODY):
            client.sendall(bytes([byte]))
        assert read_one(client)[::2] == (200, b"3")


def test_a_caller_who_closes_his_half_is_gone(running: Any) -> None:
    with connected(running) as client:
        client.sendall(post(BODY)[:-2])
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert running.admin("GET", "/status").json["in_flight"] == 0
    assert running.score({"x": [1]}).status == 200


def test_callers_who_do_not_read(replica: Any) -> None:
    """What they asked for waits in the kernel and a little in the replica; nothing more of theirs is run."""
    replica.write_image("ran = []\ndef run(x):\n    ran.append(x)\n    return [len(ran), 'x' * x]", PLAIN)
    replica.start()
    big = json.dumps({"x": 1_000_000}).encode()
    with connected(replica) as client:
        client.sendall(post(big) * 40)
        time.sleep(0.5)
        ran = replica.score({"x": 1}).json[0]
        assert ran < 10, "the caller must read before more is run for him"
        numbers = [json.loads(read_one(client)[2])[0] for _ in range(40)]
        assert numbers == sorted(numbers), "every request was answered in the end, in order"


@pytest.fixture
def ten_thousand() -> Iterator[int]:
    """Both this process and the replica are raised to the hard limit of descriptors, which must allow that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert hard >= 10_200, f"the hard limit of open files is {hard}: raise it to 10 200 or more"
    yield 10_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_idle_connections_cost_nothing(ten_thousand: int, running: Any) -> None:
    """Some with half a head, some half closed; each in turn still works."""
    with contextlib.ExitStack() as open_ones:
        clients = []
        for number in range(ten_thousand):
            clients.append(open_ones.enter_context(connected(running)))
            if number % 4 == 1:
                clients[-1].sendall(b"POST /score HTTP/1.1\r\nHos")
            if number % 4 == 2:
                clients[-1].shutdown(socket.SHUT_WR)
        assert running.score({"x": [1, 2]}).json == 2
        assert running.get("/livez").status == 200
        for client in clients[:: len(clients) // 50 // 4 * 4]:
            client.sendall(post(BODY))
            assert read_one(client)[::2] == (200, b"3")
    assert running.score({"x": [1]}).status == 200


def test_descriptors_run_out(running: Any, until: Any) -> None:
    """Further callers are refused at once, those inside are served, and with room again all is as before."""
    pid = running.process.pid
    limit = psutil.Process(pid).num_fds() + 30
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    with contextlib.ExitStack() as open_ones:
        answers = []
        for _ in range(60):
            client = open_ones.enter_context(connected(running))
            with contextlib.suppress(ConnectionError):
                client.sendall(post(BODY))
                answers.append(client.recv(65536))
        served = [answer for answer in answers if answer.startswith(b"HTTP/1.1 200")]
        assert len(served) > 20
        assert len(served) < 40
        assert {answer for answer in answers if answer not in served} <= {b""}, (
            "closed, neither held nor answered wrongly"
        )
    assert until(lambda: answer_of(running) == 200)
    assert running.get("/readyz").status == 200


def answer_of(replica: Any) -> int:
    try:
        return int(replica.score({"x": [1]}).status)
    except (OSError, http.client.HTTPException):
        return 0
