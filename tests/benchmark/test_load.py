"""The load generators against small servers whose faults are known."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from bench import closed_loop, open_loop
from bench.connections import RESET, TIMEOUT, Connection, Target, ask, wait_until_answered


class Server(threading.Thread):
    """Answers each request as its path says: /ok, /shed, /slow (0.2 s), /stall (never), /reset, /chunked."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.port = 0
        self.seen = 0
        self._ready = threading.Event()

    def run(self) -> None:
        asyncio.run(self._life())

    async def _life(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._end.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode()
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
            await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
            self.seen += 1
            if path == "/reset":
                return
            if path == "/stall":
                await asyncio.sleep(60)
            if path == "/slow":
                await asyncio.sleep(0.2)
            status = b"429 Too Many Requests" if path == "/shed" else b"200 OK"
            if path == "/chunked":
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 5\r\n\r\nhello")

    def __enter__(self) -> "Server":
        self.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def target(server: Server, path: str, body: bytes = b"{}") -> Target:
    return Target(server.port, path, body)


@pytest.mark.parametrize("path", ["/ok", "/chunked"])
def test_one_request_and_its_answer(server: Server, path: str) -> None:
    assert ask(target(server, path)) == ("200", b"hello")


def test_nobody_there_is_a_reset() -> None:
    with Server() as gone:
        port = gone.port
    assert ask(Target(port, "/ok"))[0] == RESET


def test_a_server_that_has_ended_is_not_waited_for(server: Server) -> None:
    with pytest.raises(RuntimeError, match="the server ended"):
        wait_until_answered(target(server, "/shed"), lambda: False, 30)


def test_the_own_closed_loop_counts_each_status_and_latency(server: Server) -> None:
    seen = closed_loop.own(target(server, "/slow"), 4, 0.7)
    assert set(seen.outcomes) == {"200"}
    assert server.seen - 4 <= seen.answered <= server.seen  # the last ones may be on their way
    assert seen.p50_ms >= 190
    assert closed_loop.own(target(server, "/shed"), 2, 0.2).outcomes["429"] > 0


def test_a_closed_loop_goes_on_after_resets(server: Server) -> None:
    seen = closed_loop.own(target(server, "/reset"), 2, 0.2)
    assert seen.outcomes[RESET] > 2
    assert seen.answered == 0


def test_what_wrk_prints_is_read() -> None:
    said = (
        "  Latency Distribution\n     50%  350.00us\n     75%    1.00ms\n     90%    2.00ms\n     99%    1.20s\n"
        "  1000 requests in 2.50s, 0.30MB read\n  Socket errors: connect 0, read 2, write 0, timeout 1\n"
        "  Non-2xx or 3xx responses: 40\nRequests/sec:  400.0\n"
    )
    seen = closed_loop.read_wrk(said)
    assert seen.outcomes == {"200": 960, "not 200": 40, "reset": 3}
    assert seen.p50_ms == pytest.approx(0.35)
    assert (seen.seconds, seen.p99_ms, seen.answered) == (2.5, 1200.0, 1000)


def test_a_schedule_is_the_same_each_time_and_has_the_rate() -> None:
    first = open_loop.schedule(500, 4)
    assert first == open_loop.schedule(500, 4)
    assert first == sorted(first)
    assert 1800 < len(first) < 2200
    assert first[-1] < 4


def test_every_request_of_the_schedule_is_counted(server: Server) -> None:
    seen = open_loop.run(target(server, "/ok"), 300, 1.0)
    assert seen.outcomes() == {"200": len(open_loop.schedule(300, 1.0))}
    assert seen.goodput(1.0) == pytest.approx(300, rel=0.2)
    assert seen.goodput(0.0) == 0


def test_goodput_is_what_came_in_the_second_half() -> None:
    ended = [("200", 0.1), ("200", 0.6), ("200", 0.7), ("200", 0.95), ("429", 0.6)]
    shots = [open_loop.Shot(due, 0, outcome, 0.2) for outcome, due in ended]
    assert open_loop.Open(5, 1.0, shots, None).goodput(1.0) == 2 / 0.5
    assert open_loop.Open(5, 1.0, shots, None).goodput(0.1) == 0


def test_latency_counts_from_the_scheduled_moment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one connection and a slow server a closed loop would see 0.2 s for ever; callers wait longer and longer."""
    monkeypatch.setattr(open_loop, "_MOST_CONNECTIONS", 1)
    seen = open_loop.run(target(server, "/slow"), 20, 1.0)
    assert seen.outcomes() == {"200": len(open_loop.schedule(20, 1.0))}
    assert seen.latency_ms(0.5) > 1000


def test_callers_leave_and_close_what_never_answers(server: Server) -> None:
    seen = open_loop.run(target(server, "/stall"), 20, 0.5, timeout_s=0.3)
    assert set(seen.outcomes()) == {TIMEOUT}
    assert all(shot.latency_s >= 0.3 for shot in seen.shots)


@pytest.mark.parametrize(("path", "outcome"), [("/shed", "429"), ("/reset", RESET)])
def test_refusals_and_resets_are_told_apart(server: Server, path: str, outcome: str) -> None:
    seen = open_loop.run(target(server, path), 50, 0.4)
    assert set(seen.outcomes()) == {outcome}
    assert seen.goodput(1.0) == 0


def test_the_next_caller_is_timed(server: Server) -> None:
    seen = open_loop.run(target(server, "/slow"), 10, 0.3, after_s=5.0)
    assert seen.after_s is not None
    assert 0.19 < seen.after_s < 5


def test_a_closed_connection_answers_at_once() -> None:
    outcomes: list[str] = []
    Connection().ask(b"", outcomes.append)
    assert outcomes == [RESET]
