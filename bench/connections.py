"""One HTTP/1.1 connection of the load generator, and what is asked over it."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import httptools

RESET, TIMEOUT = "reset", "time-out"
# Some servers refuse in this way while they load.
_REFUSED, _PATIENCE_S = ("400", "413", "415", "422"), 15.0


@dataclass(frozen=True)
class Target:
    """A request that is sent again and again. `unix` wins over host and port."""

    port: int
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    host: str = "127.0.0.1"
    unix: str = ""
    method: str = "POST"

    def wire(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.method != "GET":
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body

    def get(self, path: str) -> "Target":
        return replace(self, path=path, method="GET", body=b"")


class Connection(asyncio.Protocol):
    """`ask(wire, done)` sends one request; `done(outcome)` is called with its status as text, or RESET, once."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: Callable[[str], None] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self.content = b""
        self._keep_content = False

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, wire: bytes, done: Callable[[str], None], keep_content: bool = False) -> None:
        self._done, self._keep_content, self.content = done, keep_content, b""
        self._parser = httptools.HttpResponseParser(self)
        if self._transport is None or self._transport.is_closing():
            self._finish(RESET)
        else:
            self._transport.write(wire)

    def abort(self) -> None:
        """Leave, as a caller does who waits no longer."""
        self._done = None
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, outcome: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(outcome)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of a class of its own

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._finish("garbage")
            self.abort()

    def connection_lost(self, problem: Exception | None) -> None:
        self._finish(RESET)

    # the parser's side

    def on_body(self, body: bytes) -> None:
        if self._keep_content:
            self.content += body

    def on_message_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            return
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        self._finish(str(status))


async def connect(target: Target) -> Connection:
    loop = asyncio.get_running_loop()
    if target.unix:
        _, connection = await loop.create_unix_connection(Connection, target.unix)
    else:
        _, connection = await loop.create_connection(Connection, target.host, target.port)
    return connection


async def ask_once(target: Target, timeout_s: float) -> tuple[str, bytes]:
    """Outcome and body of one request over a connection of its own."""
    try:
        async with asyncio.timeout(timeout_s):
            connection = await connect(target)
            answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            connection.ask(target.wire(), answered.set_result, keep_content=True)
            try:
                return await answered, connection.content
            finally:
                connection.abort()
    except OSError:  # TimeoutError is one
        return RESET, b""


def ask(target: Target, timeout_s: float = 30.0) -> tuple[str, bytes]:
    return asyncio.run(ask_once(target, timeout_s))


def wait_until_answered(target: Target, alive: Callable[[], bool], timeout_s: float) -> bytes:
    """The body of the first 200. Raises RuntimeError with what was seen last."""
    until = time.monotonic() + timeout_s
    seen, refused_at = "no connection", 0.0
    while time.monotonic() < until:
        outcome, content = ask(target, until - time.monotonic())
        if outcome == "200":
            return content
        seen = f"{outcome} {content[:300].decode(errors='replace')}".strip()
        if outcome in _REFUSED:
            refused_at = refused_at or time.monotonic()
            if time.monotonic() - refused_at > _PATIENCE_S:
                raise RuntimeError(f"the request is refused: {seen}")
        if not alive():
            raise RuntimeError("the server ended")
        time.sleep(0.02)
    raise RuntimeError(f"no answer within {timeout_s:.0f} s; last: {seen}")
