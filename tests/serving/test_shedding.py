"""The door: what is refused before it starts, and in which words, with and without a gateway in front."""

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

PLAIN = {"input": {"x": {"type": "standard", "swagger": {"type": "number"}, "example": 0}}}
SCRIPT = """
import time
started = []
def run(x):
    started.append(x)
    time.sleep(x)
    return len(started)
"""


@pytest.fixture
def busy(replica: Any, until: Callable[..., Any]) -> Any:
    """One slot, a queue of one; a function that keeps the slot busy for a while."""
    replica.write_image(SCRIPT, PLAIN)

    def start(seconds: float, **settings: Any) -> Any:
        direct = {"unix": str(replica.folder / "direct")} if settings.pop("direct", False) else None
        behind = settings.pop("behind_gateway", direct is not None)
        replica.write_settings(**{"max_queued_requests": 1, "max_queue_wait_ms": 10_000, **settings})
        replica.start(behind_gateway=behind, direct=direct)
        replica.aside({"x": seconds})
        until(lambda: replica.admin("GET", "/status").json["in_flight"] == 1)
        return replica

    return start


def wait_in_line(replica: Any, until: Callable[..., Any], seconds: float = 0) -> list[Any]:
    replies: list[Any] = replica.aside({"x": seconds})
    until(lambda: replica.admin("GET", "/status").json["queued"] == 1)
    return replies


def test_a_full_queue(busy: Any, until: Callable[..., Any]) -> None:
    replica = busy(2.5)
    waiting = wait_in_line(replica, until)
    reply = replica.score({"x": 0})
    assert (reply.status, reply.error["code"]) == (429, "queue_full")
    assert reply.error["details"] == {"reason": "queue_full"}
    assert int(reply.headers["retry-after"]) >= 1
    assert "x-argosy-shed" not in reply.headers
    until(lambda: waiting)
    assert waiting[0].json == 2, "the refused request never started"
    assert 'reason="queue_full"} 1' in replica.get("/metrics").body.decode()
    status = replica.admin("GET", "/status").json
    assert (status["shed"], status["run_s"] > 1) == (1, True), "what the autoscaler asks for"


@pytest.mark.parametrize("status", [429, 503])
def test_behind_a_gateway(busy: Any, until: Callable[..., Any], status: int) -> None:
    replica = busy(2.5, behind_gateway=True, overload_status=status)
    wait_in_line(replica, until)
    reply = replica.score({"x": 0})
    assert (reply.status, reply.error["code"]) == (425, "queue_full")
    assert reply.headers["x-argosy-shed"] == "queue_full"
    assert reply.headers["x-argosy-overload"] == str(status)
    assert int(reply.headers["retry-after"]) >= 1


def test_past_the_gateway(busy: Any, until: Callable[..., Any]) -> None:
    """Who comes by the other door is answered as its own caller, and not believed what only the gateway knows."""
    replica = busy(2.5, direct=True)
    waiting = wait_in_line(replica, until)
    door = replica.folder / "direct"
    reply = replica.score({"x": 0}, sock=door)
    assert (reply.status, reply.error["code"]) == (429, "queue_full")
    assert "x-argosy-shed" not in reply.headers
    assert replica.score({"x": 0}, {"authorization": "Bearer guessed"}, sock=door).status == 401
    reply = replica.get(
        "/swagger.json", {"authorization": "Bearer the-primary-key", "x-forwarded-proto": "https"}, sock=door
    )
    assert reply.json["schemes"] == ["http"]
    until(lambda: waiting)
    assert replica.score({"x": 0}, sock=door).json == 3
    assert replica.stop() == 0
    with pytest.raises(OSError):
        replica.score({"x": 0}, sock=door)


def test_the_2017_status(busy: Any, until: Callable[..., Any]) -> None:
    replica = busy(2.5, overload_status=503)
    wait_in_line(replica, until)
    assert replica.score({"x": 0}).status == 503


def test_the_wait_is_bounded(busy: Any) -> None:
    replica = busy(4.0, max_queue_wait_ms=100)
    started = time.monotonic()
    reply = replica.score({"x": 0})
    assert (reply.status, reply.error["code"]) == (429, "queue_wait")
    assert time.monotonic() - started < 3.5


def test_a_deadline_in_the_queue(busy: Any, until: Callable[..., Any]) -> None:
    replica = busy(2.5)
    reply = replica.score({"x": 0}, {"x-request-timeout-ms": "100"})
    assert (reply.status, reply.error["code"]) == (429, "deadline")
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)
    assert replica.score({"x": 0}).json == 2, "the expired request never started"


def test_a_deadline_that_cannot_be_met_is_refused_at_the_door(busy: Any, until: Callable[..., Any]) -> None:
    replica = busy(2.0, max_queued_requests=5)
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)
    replica.aside({"x": 2.0})
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 1)
    started = time.monotonic()
    reply = replica.score({"x": 0}, {"x-request-timeout-ms": "50"})
    assert (reply.status, reply.error["code"]) == (429, "deadline")
    assert time.monotonic() - started < 1.8


def test_a_caller_who_left_is_not_served(busy: Any, until: Callable[..., Any]) -> None:
    replica = busy(2.5)
    body = b'{"x":0}'
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(replica.sock))
        client.sendall(
            b"POST /score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer the-primary-key\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        until(lambda: replica.admin("GET", "/status").json["queued"] == 1)
    until(lambda: replica.admin("GET", "/status").json["queued"] == 0)
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)
    assert replica.score({"x": 0}).json == 2, "the abandoned request never started"


def test_no_queue_at_all(busy: Any) -> None:
    replica = busy(2.5, max_queued_requests=0)
    assert replica.score({"x": 0}).error["code"] == "queue_full"


def test_health_and_metrics_never_queue(replica: Any, until: Callable[..., Any]) -> None:
    """While pure Python computes in the only slot and the queue is full."""
    replica.write_image("import os\ndef run(x):\n  while not os.path.exists('go'): sum(range(1000))\n  return x", PLAIN)
    replica.write_settings(max_queued_requests=1, max_queue_wait_ms=60_000)
    replica.start()
    running = replica.aside({"x": 1})
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 1)
    waiting = wait_in_line(replica, until)
    assert replica.score({"x": 0}).error["code"] == "queue_full"
    for path in ("/livez", "/readyz", "/metrics", "/", "/v2/health/ready", "/v2/health/live"):
        assert replica.get(path).status == 200, path
    assert not running and not waiting
    (replica.folder / "scratch" / "go").touch()
    until(lambda: running and waiting)
    assert [running[0].status, waiting[0].status] == [200, 200]


def test_a_slot_that_hangs_is_busy_until_it_returns(replica: Any, until: Callable[..., Any]) -> None:
    """504 for the caller; the slot goes on counting, further work waits and is shed, and then all is well again."""
    replica.write_image(
        "import os, time\ndef run(x):\n  while x and not os.path.exists('go'): time.sleep(0.01)\n  return x", PLAIN
    )
    replica.write_settings(request_timeout_ms=5000, max_queue_wait_ms=300)
    replica.start()
    reply = replica.score({"x": 1}, {"x-request-timeout-ms": "300"})
    assert (reply.status, reply.error["code"]) == (504, "timeout")
    status = replica.admin("GET", "/status").json
    assert (status["in_flight"], status["stuck"]) == (1, 0), "a caller's short deadline says nothing of the script"
    reply = replica.score({"x": 0})
    assert (reply.status, reply.error["code"]) == (429, "queue_wait")
    until(lambda: replica.admin("GET", "/status").json["stuck"] == 1)
    assert replica.get("/readyz").status == 503
    assert "argosy_stuck{" in replica.get("/metrics").body.decode()
    (replica.folder / "scratch" / "go").touch()
    until(lambda: replica.get("/readyz").status == 200)
    assert replica.admin("GET", "/status").json["stuck"] == 0
    assert replica.score({"x": 0}).status == 200


def test_pipelined_requests_do_not_stop_the_sweep(busy: Any, until: Callable[..., Any]) -> None:
    """The answer to one that waited too long brings the next of its connection to the door, during the sweep."""
    replica = busy(2.0, max_queued_requests=5, max_queue_wait_ms=200, request_timeout_ms=3000)
    body = b'{"x":0}'
    request = (
        b"POST /score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer the-primary-key\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(replica.sock))
        client.sendall(request * 3)
        received = b""
        while received.count(b"HTTP/1.1 ") < 3:
            received += client.recv(65536)
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)
    reply = replica.score({"x": 4.0})
    assert (reply.status, reply.error["code"]) == (504, "timeout"), "the sweep goes on"
