"""Connections: kept, replaced when the server has closed them, translated into our errors when they fail."""

import asyncio
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import ConnectionLost, Error, InvalidFile, NotRunning, SystemFailure, TimedOut
from argosy.gateway.tls import own_ca
from argosy.sdk.address import Address
from argosy.sdk.aio import AsyncClient, AsyncTransport
from argosy.sdk.client import Client
from argosy.sdk.transport import Transport
from argosy.sdk.wire import Request, Response
from argosy.settings import Home
from sdk.fake_control_plane import TOKEN, Answer, FakeControlPlane, error

Send = Callable[[str, Request], Response]
STATUS = Request("GET", "/v1/status")


@pytest.fixture(params=["blocking", "async"])
def send(request: pytest.FixtureRequest) -> Send:
    def blocking(url: str, what: Request) -> Response:
        transport = Transport(Address(url, TOKEN))
        try:
            return transport.send(what)
        finally:
            transport.close()

    def awaited(url: str, what: Request) -> Response:
        async def main() -> Response:
            transport = AsyncTransport(Address(url, TOKEN))
            try:
                return await transport.send(what)
            finally:
                await transport.close()

        return asyncio.run(main())

    return blocking if request.param == "blocking" else awaited


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_connection_is_kept_and_renewed_when_the_server_closed_it(fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/status", Answer({}), Answer({}, close=True), Answer({}))
    transport = Transport(Address(fake.url, TOKEN))
    for _ in range(3):
        assert transport.send(STATUS).status == 200
    transport.close()
    ports = [seen.port for seen in fake.seen]
    assert ports[0] == ports[1]
    assert ports[2] != ports[1]


def test_threads_may_share_a_client(fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/services", {"items": [], "next": None})
    answers: list[list[Any]] = []
    with Client(fake.url, TOKEN) as client:
        threads = [threading.Thread(target=lambda: answers.append(client.services.list())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [[]] * 8


def test_what_may_be_repeated_is_repeated_once(fake: FakeControlPlane, send: Send) -> None:
    fake.answer("GET", "/v1/status", Answer(drop=True), Answer({"ok": 1}))
    assert send(fake.url, STATUS).json() == {"ok": 1}
    fake.answer("GET", "/v1/status", Answer(drop=True))
    with pytest.raises(ConnectionLost, match="broke before the answer"):
        send(fake.url, STATUS)
    assert len(fake.seen) == 4
    fake.answer("POST", "/v1/x", Answer(drop=True), Answer({}))
    with pytest.raises(ConnectionLost):
        send(fake.url, Request("POST", "/v1/x", json={}))
    assert len(fake.asked("POST", "/v1/x")) == 1


def test_nobody_listens(closed_port: int, send: Send) -> None:
    with pytest.raises(NotRunning, match="argosy up"):
        send(f"http://127.0.0.1:{closed_port}", STATUS)
    with pytest.raises(SystemFailure, match="gateway"):
        send(f"http://127.0.0.1:{closed_port}", Request("GET", f"http://127.0.0.1:{closed_port}/x"))
    with pytest.raises(NotRunning):
        send("http://no-such-host.invalid", STATUS)


def test_an_answer_that_does_not_come(silent: str, send: Send) -> None:
    with pytest.raises(TimedOut, match=r"0\.2 s"):
        send(silent, Request("GET", "/v1/status", timeout_s=0.2))


def test_our_token_stays_with_the_control_plane(fake: FakeControlPlane, send: Send) -> None:
    fake.answer("GET", "/elsewhere", {})
    send(fake.url, Request("GET", f"{fake.url}/elsewhere"))
    send(fake.url, STATUS)
    assert "authorization" not in fake.seen[0].headers
    assert fake.seen[1].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_file_is_sent_in_little_memory(fake: FakeControlPlane, tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as out:
        out.truncate(64_000_000)
    fake.answer("POST", "/v1/blobs", {"size_bytes": 1})
    sent: list[int] = []
    transport = Transport(Address(fake.url, TOKEN))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    def watch(count: int) -> None:
        # Only what this thread's side holds: the fake server keeps the whole body.
        sent.append(count)

    transport.send(Request("POST", "/v1/blobs", upload=path, on_sent=watch, repeatable=True))
    held = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*argosy/sdk*")])
    tracemalloc.stop()
    transport.close()
    assert before >= 0
    assert sum(trace.size for trace in held.traces) < 2_000_000
    assert sent[-1] == 64_000_000
    assert sent == sorted(sent)
    assert fake.seen[0].headers["content-length"] == "64000000"


def test_an_upload_that_is_refused_early_tells_why(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as out:
        out.truncate(50_000_000)
    body = b'{"error": {"code": "too_large", "message": "too large", "details": {}}}'
    head = (
        f"HTTP/1.1 413 X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            connection.recv(2000)
            connection.sendall(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 20):
                pass
            connection.close()

        thread = threading.Thread(target=refuse)
        thread.start()
        transport = Transport(Address(f"http://127.0.0.1:{listener.getsockname()[1]}", TOKEN))
        answer = transport.send(Request("POST", "/v1/blobs", upload=path))
        transport.close()
        thread.join()
    assert answer.status == 413


def test_a_file_that_vanished(fake: FakeControlPlane, send: Send, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="cannot be read"):
        send(fake.url, Request("POST", "/v1/blobs", upload=tmp_path / "gone"))


def test_a_failing_sink_is_not_taken_for_the_network(fake: FakeControlPlane, send: Send) -> None:
    fake.answer("GET", "/v1/x", Answer(b"abc"))

    def full(piece: bytes) -> None:
        raise SystemFailure("disk full")

    with pytest.raises(SystemFailure, match="disk full"):
        send(fake.url, Request("GET", "/v1/x", sink=full))


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """URL and CA file of a server with a certificate of an own authority; it answers `{}` to everything."""
    home = Home(tmp_path / "home")
    home.prepare()
    tls = own_ca(home, ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.cert, tls.key)
    stopping = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while not stopping.is_set():
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    wrapped.recv(65536)
                    wrapped.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    yield f"https://127.0.0.1:{port}", str(tls.ca)
    stopping.set()
    socket.create_connection(("127.0.0.1", port)).close()
    thread.join()
    listener.close()


def test_an_own_authority_is_trusted_when_named_and_only_then(encrypted: tuple[str, str]) -> None:
    url, ca_file = encrypted
    with Client(url, "t", ca_file=ca_file) as client:
        assert client.doctor() == {}
    with Client(url, "t") as stranger, pytest.raises(SystemFailure, match=r"not trusted.*ARGOSY_CA_FILE"):
        stranger.doctor()

    async def both() -> None:
        async with AsyncClient(url, "t", ca_file=ca_file) as client:
            assert await client.doctor() == {}
        async with AsyncClient(url, "t") as stranger:
            with pytest.raises(Error):
                await stranger.doctor()

    asyncio.run(both())


def test_a_ca_file_that_is_none(tmp_path: Path, encrypted: tuple[str, str]) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with Client(encrypted[0], "t", ca_file=str(tmp_path / "ca.pem")) as client, pytest.raises(Error, match="CA file"):
        client.status()


def test_unauthorised(fake: FakeControlPlane) -> None:
    with Client(fake.url, "wrong") as client, pytest.raises(Error) as caught:
        client.status()
    assert (caught.value.code, caught.value.status, caught.value.exit_code) == ("unauthorized", 401, 1)
    assert error(401, "x", "y").status == 401
