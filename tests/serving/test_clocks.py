"""What a request may take is counted from its arrival at the gateway, by a clock that nobody can set."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

PLAIN = {"input": {"x": {"type": "standard", "swagger": {"type": "number"}, "example": 0}}}
# Sleeps by `select`: libfaketime gets the absolute times of `time.sleep` wrong.
SCRIPT = """
import select
ran = []
def run(x):
    ran.append(x)
    select.select([], [], [], x)
    return len(ran)
"""
HOUR_S = 3600


def ago(seconds: float) -> dict[str, str]:
    """As the gateway says when a request arrived."""
    return {"x-argosy-arrival": str(int((time.time() - seconds) * 1000))}


def queue_ms(reply: Any) -> float:
    return float(reply.headers["server-timing"].split(",")[0].removeprefix("queue;dur="))


@pytest.fixture
def serving(replica: Any) -> Callable[..., Any]:
    def start(**spec: Any) -> Any:
        replica.write_image(SCRIPT, PLAIN)
        replica.write_settings(request_timeout_ms=60_000, max_queue_wait_ms=30_000)
        return replica.start(**spec)

    return start


def test_a_request_that_waited_elsewhere(serving: Callable[..., Any]) -> None:
    """Its caller's deadline has passed: it is refused, and never runs."""
    replica = serving(behind_gateway=True)
    reply = replica.score({"x": 0}, {**ago(20), "x-request-timeout-ms": "15000"})
    assert (reply.status, reply.error["code"]) == (425, "deadline")
    assert reply.headers["x-argosy-shed"] == "deadline"
    in_time = replica.score({"x": 0}, {**ago(20), "x-request-timeout-ms": "50000"})
    assert (in_time.status, in_time.json) == (200, 1)
    assert queue_ms(in_time) >= 19_000, "and its wait is told"


def test_a_running_request_has_what_its_wait_left(serving: Callable[..., Any]) -> None:
    replica = serving(behind_gateway=True)
    started = time.monotonic()
    reply = replica.score({"x": 30}, {**ago(20), "x-request-timeout-ms": "22000"})
    assert (reply.status, reply.error["code"]) == (504, "timeout")
    assert time.monotonic() - started < 20, "not the whole 22 seconds again"


def test_who_is_not_the_gateway_is_not_believed(serving: Callable[..., Any]) -> None:
    replica = serving(behind_gateway=False)
    reply = replica.score({"x": 0}, {**ago(20), "x-request-timeout-ms": "15000"})
    assert (reply.status, queue_ms(reply) < 15_000) == (200, True)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "0",
        "1",
        "-5",
        "1e3",
        "yesterday",
        "9" * 16,
        "9" * 40,
        " 17",
        "0x10",
        "in an hour",
    ],
)
def test_arrivals_that_cannot_be(serving: Callable[..., Any], said: str) -> None:
    replica = serving(behind_gateway=True)
    if said == "in an hour":
        said = str(int((time.time() + HOUR_S) * 1000))
    reply = replica.score({"x": 0}, {"x-argosy-arrival": said, "x-request-timeout-ms": "15000"})
    assert (reply.status, queue_ms(reply) < 15_000) == (200, True)


@pytest.fixture
def set_clock(replica: Any, require: Callable[[str], str]) -> Callable[[int], None]:
    """Puts the clock of the replica's process, and of nobody else, so many seconds off. Before its start, first."""
    require("faketime")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    offset = replica.folder / "clock"
    replica.variables = {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip

    def put(seconds: int) -> None:
        offset.write_text(f"{seconds:+d}")

    put(0)
    return put


def off_by_s(replica: Any) -> float:
    shown = parsedate_to_datetime(replica.get("/livez").headers["date"])
    return shown.timestamp() - time.time()


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S, 400 * 24 * HOUR_S])
def test_the_clock_jumps(
    set_clock: Callable[[int], None], serving: Callable[..., Any], until: Callable[..., Any], jump_s: int
) -> None:
    """While one request runs and one waits; nothing is lost, nothing times out, and limits hold as before."""
    replica = serving(behind_gateway=True)
    running = replica.aside({"x": 3})
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 1)
    waiting = replica.aside({"x": 0})
    until(lambda: replica.admin("GET", "/status").json["queued"] == 1)
    set_clock(jump_s)
    until(lambda: abs(off_by_s(replica) - jump_s) < 60)
    # The gateway stamps with another clock now, or did before.
    short = replica.score({"x": 0}, {**ago(0), "x-request-timeout-ms": "200"})
    assert (short.status, short.error["code"]) == (425, "deadline")
    assert 1 <= int(short.headers["retry-after"]) <= 60
    until(lambda: running and waiting)
    assert [running[0].status, waiting[0].status] == [200, 200]
    assert replica.score({"x": 0}, ago(1)).status == 200
    assert replica.get("/readyz").status == 200
    set_clock(0)
    until(lambda: abs(off_by_s(replica)) < 60)
    assert replica.score({"x": 0}, ago(1)).status == 200
    assert replica.stop() == 0
