"""HTTP/1.1 straight on asyncio, parsed by httptools: a request in by `handle`, its answer out by `Request.respond`.

Why not a server's own stack: measured beside uvicorn's, which needs a task and a dozen objects a request, this costs
half (docs/benchmarks.md); it passes the same tests by the byte (tests/serving/test_http_wire.py). What callers may
rely on: requests of one connection are answered in order; one that has not been read to its end gets its answer before
the connection closes; heads, bodies and answers that stall are cut off. A caller who closes its sending half counts as
gone, for TCP cannot tell that from a closed connection.
"""

import asyncio
import functools
import http
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

import httptools

from argosy_serving.messages import JSON_TYPE, Answer, Request, header_lines, path_of
from argosy_serving.refusals import Defect, HeadTooLarge, NotHttp, Refusal, StreamTimeout
from argosy_serving.streams import Stream

logger = logging.getLogger("argosy")

KEEP_ALIVE_S = 65.0  # longer than the usual 60 s of proxies, so that they close first
HEAD_LIMIT_BYTES = 65_536
HEAD_LIMIT_S = 30.0
_STALL_S = 60.0  # without a byte of the answer taken
_LINGER_S = 2.0
_LINGER_BYTES = 4_000_000
_BODILESS = (204, 304)
_FRAMING = (b"content-length", b"transfer-encoding")
_JOINED_BYTES = 65_536  # larger bodies are not copied behind their head


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}
Handle = Callable[[Request], None]


class Connection(asyncio.Protocol):
    """One connection. `handle(request)` must lead to one `request.respond(answer)`."""

    def __init__(
        self, handle: Handle, connections: "set[Connection]", date: Callable[[], bytes], behind_gateway: bool = False
    ) -> None:
        self._handle, self._connections, self._date = handle, connections, date
        self.behind_gateway = behind_gateway
        self.loop = asyncio.get_running_loop()
        self.gone = False
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._incoming: Request | None = None  # its head is being read
        self._reading: Request | None = None  # its body is being read
        self._waiting: deque[Request] = deque()  # its head is whole; pipelined behind:
        self._current: Request | None = None  # it is being answered
        self._stream: Stream | None = None  # by this
        self._upgrading: Request | None = None  # it asks for another protocol
        self._body_of: Request | None = None  # whose body comes next
        self._url = b""
        self._useless_bytes, self._moved = 0, False  # received since a head began or more of a body came
        self._advancing = self._paused = self._served = False
        self._deaf = False  # nothing more is parsed
        self._idle_since = 0.0
        self._stalled_at, self._unsent_bytes = 0.0, 0
        self._lingering_bytes = _LINGER_BYTES
        self._room: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """A request waits for its answer."""
        return self._current is not None or bool(self._waiting)

    @property
    def unsent(self) -> bool:
        """Part of an answer has not been taken by the caller."""
        return not self.gone and self._transport.get_write_buffer_size() > 0

    # What the transport says

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._connections.add(self)
        self._idle_since = monotonic()

    def connection_lost(self, problem: "Exception | None") -> None:
        self.gone = True
        self._connections.discard(self)
        if self._current is not None:
            self._current.stop_reading()
        if self._stream is not None:
            self._stream.close()
        self._current = self._reading = self._incoming = None
        self._waiting.clear()
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._throw_away(len(data))
            return
        self._moved = False
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._break(NotHttp())
        # Not only heads have no end: trailers, extensions of chunks and empty lines need not have one either.
        self._useless_bytes = 0 if self._moved else self._useless_bytes + len(data)
        if self._useless_bytes > HEAD_LIMIT_BYTES:
            self._break(HeadTooLarge(HEAD_LIMIT_BYTES))
        self._advance()

    def pause_writing(self) -> None:
        self._stalled_at, self._unsent_bytes = monotonic(), self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._stalled_at = 0.0
        self._wake()
        self._advance()

    # What the parser says

    def on_message_begin(self) -> None:
        if self._deaf:  # since the request before, in the same packet
            return
        self._incoming = Request(self)
        self._url, self._moved = b"", True
        self._idle_since = monotonic()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._incoming is not None:  # else it is a trailer, which comes too late to mean anything
            self._incoming.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        request, parser = self._incoming, self._parser
        if self._body_of is not None:
            self._incoming, self._reading, self._body_of = None, self._body_of, None
            return
        if request is None:
            return
        request.method = parser.get_method().decode("ascii")
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive() and request.version == "1.1"
        request.path, request.query = path_of(self._url)
        request.arrived_at = monotonic()
        self._incoming, self._reading = None, request
        if parser.should_upgrade():
            self._upgrading = request
        self._waiting.append(request)

    def on_body(self, data: bytes) -> None:
        self._moved = True
        if self._reading is not None:
            self._reading.add(data)

    def on_message_complete(self) -> None:
        request, self._reading = self._reading, None
        if request is not None and request is not self._upgrading:
            request.complete()

    def _parse(self, data: bytes) -> None:
        """Raises HttpParserError."""
        rest: bytes | memoryview = data
        while len(rest) and not self._deaf:
            try:
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
                self._go_on_as_http()

    def _go_on_as_http(self) -> None:
        """Nothing else is spoken here. The parser ends a request that asks for another protocol with its head, though
        Java's client sends a body too and expects an answer: a new one is told how that body is framed."""
        request, self._upgrading = self._upgrading, None
        if request is None:
            self._deaf = True
        elif request.method == "CONNECT":
            self._deaf, request.keep_alive = True, False
        elif framing := [item for item in request.headers.items() if item[0] in _FRAMING]:
            self._parser, self._body_of, self._reading = httptools.HttpRequestParser(self), request, request
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % header_lines(framing))
            return
        if request is not None:
            request.complete()

    # Requests and their answers

    def _advance(self) -> None:
        """Handle what can be handled now: one at a time, and nothing more for a caller who does not read."""
        if self._advancing or self.gone:
            return
        self._advancing = True
        waiting = self._waiting
        while waiting and self._current is None and not self._stalled_at:
            self._current = request = waiting.popleft()
            if request.refusal is not None:
                request.respond(_refused(request.refusal))
                continue
            try:
                self._handle(request)
            except Exception:
                logger.exception("Answering %s failed", request.path)
                request.respond(_refused(Defect()))
        self._advancing = False
        if self._paused != bool(waiting) and not self._transport.is_closing():
            self._paused = not self._paused
            if self._paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def respond(self, request: Request, answer: Answer) -> None:
        """Write the answer, and go on to the next request."""
        if self._current is not request:  # the caller has left
            if answer.stream is not None:
                answer.stream.close()
            return
        status, body = answer.status, answer.body
        if answer.closing or not request.whole:
            request.keep_alive = False
        end = b"\r\n" if request.keep_alive else b"connection: close\r\n\r\n"
        if answer.stream is not None:
            chunked = b"transfer-encoding: chunked\r\n" if request.version == "1.1" else b""
            head = b"".join((_STATUS_LINES[status], self._date(), answer.headers, chunked, end))
            self._stream = answer.stream
            sending = self.loop.create_task(self._send(request, head, answer.stream))
            sending.add_done_callback(functools.partial(self._sent, request))
            return
        length = b"content-length: %d\r\n" % len(body) if status not in _BODILESS else b""
        if request.method == "HEAD":
            body = b""
        parts = (_STATUS_LINES[status], self._date(), answer.headers, length, end, body)
        if len(body) > _JOINED_BYTES:
            self._transport.writelines(parts)
        else:
            self._transport.write(b"".join(parts))
        self._answered(request)

    def _answered(self, request: Request) -> None:
        self._current = None
        self._served = True
        self._idle_since = monotonic()
        if self.gone:
            return
        if not request.keep_alive:
            self._close(linger=not request.whole)
        elif self._waiting:
            self._advance()

    def _sent(self, request: Request, sending: "asyncio.Task[None]") -> None:
        if not sending.cancelled() and (problem := sending.exception()) is not None:
            logger.error("A stream broke off", exc_info=problem)
            request.keep_alive = False
        self._answered(request)

    async def _send(self, request: Request, head: bytes, stream: Stream) -> None:
        """Chunk by chunk, until the stream ends, its reader has gone, or its deadline has passed."""
        chunked = request.version == "1.1"  # 1.0 knows no chunks: there the body ends with the connection
        self.write(head)

        def send(chunk: bytes) -> None:
            if chunk:
                self.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)

        async def pump() -> None:
            async for chunk in stream.chunks():
                send(chunk)
                while self._stalled_at and not self.gone:
                    self._room = self.loop.create_future()
                    await self._room

        late = False
        try:
            await asyncio.wait_for(pump(), max(0.0, stream.deadline_at - monotonic()))
        except (asyncio.TimeoutError, TimeoutError):
            late = True
        finally:
            stream.close()
            self._stream = None
        if late and not self._stalled_at:
            send(stream.form.error(StreamTimeout()))
        if late or not stream.whole:
            request.keep_alive = False  # without the last chunk: it is cut off, and shows it
        elif chunked:
            self.write(b"0\r\n\r\n")

    def write(self, data: bytes) -> None:
        if not self.gone:
            self._transport.write(data)

    def _wake(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # What goes wrong, and the end

    def _break(self, refusal: Refusal) -> None:
        """From here on nothing can be understood; the requests before it are answered first."""
        if self._deaf:
            return
        last = self._waiting[-1] if self._waiting else self._current
        if self._reading is None and last is not None and not last.keep_alive:
            return  # behind the last request of a connection anything may follow
        self._deaf = True
        reading, self._reading = self._reading, None
        if reading is not None and reading is self._current:
            reading.give_up(refusal)
        elif reading is not None:
            reading.refusal = refusal
        else:
            broken = self._incoming or Request(self)
            broken.refusal = refusal
            self._waiting.append(broken)
        self._incoming = None

    def tick(self, now: float) -> None:
        """Once a second: end what does not move. `now` is of the monotonic clock."""
        if self._stalled_at or self._transport.is_closing():
            unsent_bytes = self._transport.get_write_buffer_size()
            if unsent_bytes != self._unsent_bytes:
                self._stalled_at, self._unsent_bytes = self._stalled_at and now, unsent_bytes
            elif now - max(self._stalled_at, self._idle_since) > _STALL_S:
                self._transport.abort()
        elif not self.busy:
            started = self._incoming is not None or not self._served
            if now - self._idle_since > (HEAD_LIMIT_S if started else KEEP_ALIVE_S):
                self._transport.close()

    def end(self) -> None:
        """Close now, or when the answer under way is written."""
        if self._current is None:
            self._transport.close()
        else:
            self._current.keep_alive = False

    def _close(self, linger: bool) -> None:
        """`linger`: read on for a moment, so that a caller who is still sending gets the answer, not a reset."""
        self._deaf = True
        self._reading = self._incoming = None
        self._waiting.clear()
        if not linger:
            self._transport.close()
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self.loop.call_later(_LINGER_S, self._transport.close)

    def _throw_away(self, size: int) -> None:
        self._lingering_bytes -= size
        if self._lingering_bytes <= 0:
            self._transport.close()


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.status, JSON_TYPE, refusal.body())
