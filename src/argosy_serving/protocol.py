"""HTTP/1.1 over uvicorn's httptools protocol, with what it leaves open: bounded request heads, and who has gone.

The rest of the server sees only `Request`, `Answer` and one `handle(request)`.
"""

import asyncio
import functools
import logging
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from time import monotonic
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from argosy_serving.refusals import BodyTimeout, StreamTimeout, TooLarge
from argosy_serving.spec import Address
from argosy_serving.streams import Stream

logger = logging.getLogger("argosy")

KEEP_ALIVE_S = 65  # longer than the usual 60 s of proxies, so that they close first
_HEAD_LIMIT_BYTES = 65_536
_HEAD_LIMIT_S = 30.0
_LINGER_S = 2.0
_LINGER_BYTES = 4_000_000
_BACKLOG = 2048
_BODILESS = (204, 304)


class Gone(Exception):
    """The caller closed the connection before the answer."""


class Request:
    """One request. `headers` has lower-case names; of repeated ones the last counts."""

    __slots__ = ("_receive", "headers", "method", "path")

    def __init__(self, scope: Any, receive: Any) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive

    def gone(self) -> bool:
        """True when the caller has closed the connection. Safe to ask from any thread."""
        return bool(self._receive.__self__.disconnected)

    @property
    def query(self) -> bytes:
        """What follows the `?`, as it was sent."""
        return bytes(self._receive.__self__.scope["query_string"])

    async def body(self, limit_bytes: int, limit_s: float) -> bytes:
        """The whole body. Raises TooLarge, before reading when it was announced, BodyTimeout, or Gone."""
        length = self.headers.get(b"content-length")
        if length is not None and int(length) > limit_bytes:
            raise TooLarge(limit_bytes)
        # Nearly always the body has come with the head; then this costs no timer.
        cycle = self._receive.__self__
        if not cycle.more_body and not cycle.disconnected:
            message = await self._receive()
            if len(message["body"]) > limit_bytes:
                raise TooLarge(limit_bytes)
            return bytes(message["body"])
        try:
            return await asyncio.wait_for(self._read(limit_bytes), limit_s)
        except (asyncio.TimeoutError, TimeoutError):
            raise BodyTimeout(limit_s) from None

    async def _read(self, limit_bytes: int) -> bytes:
        parts, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise Gone
            size += len(message["body"])
            if size > limit_bytes:
                raise TooLarge(limit_bytes)
            parts.append(message["body"])
            if not message["more_body"]:
                return b"".join(parts)

    async def discard(self) -> None:
        """Read on for a moment, so that a caller who is still sending gets the answer instead of a reset."""

        async def rest() -> None:
            size = 0
            while size < _LINGER_BYTES:
                message = await self._receive()
                if message["type"] != "http.request" or not message["more_body"]:
                    return
                size += len(message["body"])

        try:
            await asyncio.wait_for(rest(), _LINGER_S)
        except (asyncio.TimeoutError, TimeoutError):
            pass

    @property
    def unread(self) -> bool:
        """True when part of the body is still to come, and the caller was not told to wait for a 100."""
        cycle = self._receive.__self__
        return bool(cycle.more_body and not cycle.waiting_for_100_continue and not cycle.disconnected)


class Answer:
    """Status, headers and body, or a stream of chunks. The body's length is added here."""

    __slots__ = ("body", "headers", "status", "stream")

    def __init__(
        self, status: int, headers: "list[tuple[bytes, bytes]]", body: bytes, stream: "Stream | None" = None
    ) -> None:
        self.status, self.headers, self.body, self.stream = status, headers, body, stream


Handle = Callable[[Request], Awaitable[Answer]]


def asgi(handle: Handle) -> Any:
    """`handle` as an ASGI application. It must not raise anything but Gone."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        try:
            answer = await handle(request)
        except Gone:
            return
        cycle = receive.__self__
        if answer.stream is not None:
            await _send_stream(cycle, answer, answer.stream, receive, send)
        elif cycle.flow.write_paused or cycle.more_body or request.method == "HEAD" or answer.status in _BODILESS:
            await _send(request, answer, send)
        elif not cycle.disconnected:
            # Older uvicorn looks for this only while it sends.
            wish = request.headers.get(b"connection")
            if wish is not None and b"close" in wish.lower():
                cycle.keep_alive = False
            _write(cycle, answer)

    return application


async def _send(request: Request, answer: Answer, send: Any) -> None:
    """By the book of ASGI: for slow readers, and for callers who are still sending."""
    headers = answer.headers
    if answer.status not in _BODILESS:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    unread = request.unread
    if unread:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if unread:
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        await request.discard()
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": answer.body})


async def _send_stream(cycle: Any, answer: Answer, stream: Stream, receive: Any, send: Any) -> None:
    """Chunk by chunk, until the stream ends, its reader has gone, or its deadline has passed."""
    if cycle.scope["http_version"] == "1.0":
        # It knows no chunks: the body ends with the connection.
        cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})

    async def pump() -> None:
        async for chunk in stream.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def watch() -> None:
        while not cycle.disconnected and not cycle.response_complete:
            await receive()

    sending, watching = asyncio.ensure_future(pump()), asyncio.ensure_future(watch())
    sent = late = False
    try:
        left_s = max(0.0, stream.deadline_at - monotonic())
        await asyncio.wait({sending, watching}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        sent = sending.done() and sending.exception() is None
        late = not sending.done() and not watching.done()
    finally:
        stream.close()
        for task in (sending, watching):
            task.cancel()
        await asyncio.gather(sending, watching, return_exceptions=True)
    if late and not cycle.flow.write_paused and not cycle.disconnected:
        record = stream.form.error(StreamTimeout())
        await send({"type": "http.response.body", "body": record, "more_body": True})
    if stream.whole and sent:
        cycle.expected_content_length = 0
        await send({"type": "http.response.body", "body": b""})
    else:
        cycle.transport.close()


def _write(cycle: Any, answer: Answer) -> None:
    """The same bytes in one write, without looking at each header again: half of what `send` costs, twice.

    It leaves the cycle as `RequestResponseCycle.send` would; tests hold both ways to the same bytes.
    """
    parts = [STATUS_LINE[answer.status]]
    for name, value in cycle.default_headers:
        parts += (name, b": ", value, b"\r\n")
    for name, value in answer.headers:
        parts += (name, b": ", value, b"\r\n")
        if name == b"connection":
            cycle.keep_alive = False
    if not cycle.keep_alive and b"connection" not in parts:
        parts.append(b"connection: close\r\n")
    parts += (b"content-length: %d\r\n\r\n" % len(answer.body), answer.body)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join(parts))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


class _Protocol(HttpToolsProtocol):
    """Closes connections whose request head is too long or comes too slowly; uvicorn bounds neither."""

    head_bytes = 0
    head_since = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.head_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.scope is not None and "path" in self.scope:
            self.head_since = 0.0
            return
        if not self.head_since:
            self.head_bytes, self.head_since = 0, self.loop.time()
        self.head_bytes += len(data)
        if self.head_bytes > _HEAD_LIMIT_BYTES and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()


class Listener:
    """One listening socket and its connections. A unix socket is 0600, bound under another name and renamed."""

    def __init__(self, handle: Handle, address: Address) -> None:
        self.address = address
        self._config = uvicorn.Config(
            asgi(handle),  # the one application of this listener
            http=_Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.AbstractServer | None = None
        self.port = 0

    async def open(self) -> None:
        """Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        listening = _bind_unix(Path(self.address.unix)) if self.address.unix else _bind_tcp(self.address)
        if not self.address.unix:
            self.port = listening.getsockname()[1]
        self.tick()
        factory = functools.partial(_Protocol, self._config, self._state, {}, loop)
        self._server = await loop.create_server(factory, sock=listening, backlog=_BACKLOG)

    def tick(self) -> None:
        """Once a second: the Date header, and connections whose head never comes."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        now = asyncio.get_running_loop().time()
        for connection in list(self._state.connections):
            since = getattr(connection, "head_since", 0.0)
            if since and now - since > _HEAD_LIMIT_S:
                connection.transport.close()

    @property
    def busy(self) -> int:
        """Requests whose answer has not been written."""
        return len(self._state.tasks)

    def hide(self) -> None:
        """Let no new caller find the unix socket; those that have connected are still served."""
        if self.address.unix:
            Path(self.address.unix).unlink(missing_ok=True)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        await asyncio.sleep(0)  # lets the transports close


def _bind_unix(path: Path) -> socket.socket:
    temporary = path.with_name(f".{secrets.token_hex(4)}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listening.bind(str(temporary))
    finally:
        os.umask(mask)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    temporary.replace(path)
    return listening


def _bind_tcp(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address.host, address.port))
    listening.setblocking(False)
    return listening
