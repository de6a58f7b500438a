"""Small replicas on unix sockets, a strict client and a strict load generator, on asyncio alone."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argosy.gateway.gateway import Gateway
from argosy.gateway.routes import Route, Server

MakeGateway = Callable[..., Gateway]


@dataclass
class Replica:
    """Answers every request with what it got, as JSON and with `status`, after `delay_s`; `shed` refuses as a replica
    behind the gateway does."""

    name: str
    folder: Path
    ready: bool = True
    shed: str = ""
    delay_s: float = 0.0
    status: int = 200
    overload_status: int = 429
    served: int = 0
    refused: int = 0
    aborted: int = 0
    in_flight: int = 0
    accepted: int = 0
    checked: int = 0
    _listener: socket.socket | None = None
    _open: dict[asyncio.Task[None], socket.socket] = field(default_factory=dict)

    @property
    def server(self) -> Server:
        return Server(self.name, f"unix@{self.folder / self.name}")

    async def start(self) -> "Replica":
        """Accepts by hand: asyncio's server leaks the connections that it is just accepting when it is closed."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(str(self.folder / self.name))
        self._listener.listen(1024)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)
        return self

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            connection, _ = listener.accept()
            self.accepted += 1
            task = asyncio.create_task(self._connection(connection))
            self._open[task] = connection
            task.add_done_callback(lambda task: self._open.pop(task).close())

    async def stop(self) -> None:
        """As a replica drains: in flight is finished, then the listener closes."""
        await until(lambda: self.in_flight == 0)
        await self.crash()

    async def crash(self) -> None:
        assert self._listener is not None
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        (self.folder / self.name).unlink(missing_ok=True)
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await asyncio.sleep(0.01)

    async def _connection(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        try:
            while await self._one(reader, writer):
                pass
            writer.close()
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, headers = await read_head(reader)
        method, path, _ = line.split(" ", 2)
        if path == "/readyz":
            self.checked += 1
            await reply(writer, 200 if self.ready else 503, {})
            return False
        if self.shed:
            # Before the body is read, as an early refusal does.
            self.refused += 1
            body = {"error": {"code": self.shed, "message": "", "details": {}}}
            extra = {"x-argosy-shed": self.shed, "retry-after": "3", "x-argosy-overload": str(self.overload_status)}
            await reply(writer, 425, body, {**extra, "connection": "close"})
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(-1), 0.2)
            return False
        self.in_flight += 1
        try:
            size = len(await read_body(reader, headers))
            await self._work(reader, float(headers.get("x-sleep", self.delay_s)))
            self.served += 1
            status = int(headers.get("x-status", self.status))
            answer = {"replica": self.name, "method": method, "path": path, "headers": headers, "body_bytes": size}
            await reply(writer, status, answer, {"x-request-id": headers["x-request-id"]})
        finally:
            self.in_flight -= 1
        return True

    async def _work(self, reader: asyncio.StreamReader, sleep_s: float) -> None:
        if sleep_s:
            gone = asyncio.ensure_future(reader.read(1))
            done, _ = await asyncio.wait([gone], timeout=sleep_s)
            if done:
                self.aborted += 1
                raise ConnectionResetError
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines[1:])
    return lines[0], {name.lower(): value.strip() for name, _, value in pairs}


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


async def reply(
    writer: asyncio.StreamWriter, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
) -> None:
    content = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
    await writer.drain()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One keep-alive connection that repeats nothing: a dropped connection is an error of the request."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.context = context
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, path: str, body: bytes = b"", headers: dict[str, str] | None = None, method: str = "POST"
    ) -> Answer:
        fields = {"host": "models.example", "content-length": str(len(body)), **(headers or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return await self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    async def raw(self, content: bytes) -> Answer:
        if self._streams is None:
            name = "localhost" if self.context else None
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=self.context, server_hostname=name
            )
        reader, writer = self._streams
        writer.write(content)
        line, headers = await read_head(reader)
        answer = Answer(int(line.split()[1]), headers, await read_body(reader, headers))
        if headers.get("connection") == "close":
            await self.close()
        return answer

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            with suppress(ConnectionError, ssl.SSLError):
                await self._streams[1].wait_closed()
            self._streams = None


@dataclass
class Load:
    """Keep-alive clients that score one after the other, without a pause, until `stop`. Every failure is kept."""

    port: int
    service: str
    clients: int = 8
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _stopping: bool = False

    async def start(self) -> "Load":
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self.clients)]
        return self

    async def _client(self, number: int) -> None:
        client = Client(self.port)
        while not self._stopping:
            try:
                # Half of the clients think for a moment, so that idle connections are met too.
                answer = await client.request(f"/api/v1/service/{self.service}/score", b"[1, 2]")
                self.answered += 1
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {answer.body[:200]!r}")
            except (OSError, asyncio.IncompleteReadError) as problem:
                self.failures.append(repr(problem))
                await client.close()
            await asyncio.sleep(0.003 * (number % 4))
        await client.close()

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


def route(service: str, *replicas: Replica, timeout_ms: int = 60_000, max_connections: int = 108) -> Route:
    return Route(service, tuple(replica.server for replica in replicas), timeout_ms, max_connections)


async def until(claim: Callable[[], bool | Awaitable[bool]], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        found = claim()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)
