"""A request as it is read, and the answer to it; the protocol fills the one and writes the other."""

import re
from collections.abc import Callable, Iterable
from time import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

import httptools

from argosy_serving.refusals import BodyTimeout, Refusal, TooLarge
from argosy_serving.streams import Stream

if TYPE_CHECKING:
    from argosy_serving.protocol import Connection  # which makes requests; they only call it

_KNOWN_URLS = 256  # more would only be somebody playing
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MILLISECONDS = re.compile(rb"[1-9][0-9]{0,15}").fullmatch
_known: "dict[bytes, tuple[str, bytes]]" = {}


def path_of(url: bytes) -> "tuple[str, bytes]":
    """The path without its percent signs, and the query. Raises HttpParserError, or ValueError for other letters."""
    if (known := _known.get(url)) is not None:
        return known
    parsed = httptools.parse_url(url)
    path, query = (parsed.path or b"/").decode("ascii"), parsed.query or b""
    if "%" in path:
        path = unquote(path)
    if len(_known) < _KNOWN_URLS:
        _known[url] = path, query
    return path, query


class Answer:
    """Status, header lines (`header_lines`) and body, or a stream of chunks. The protocol adds date, the body's length
    and `connection: close`, which `closing` asks for."""

    __slots__ = ("body", "closing", "headers", "status", "stream")

    def __init__(
        self, status: int, headers: bytes, body: bytes, stream: "Stream | None" = None, closing: bool = False
    ) -> None:
        self.status, self.headers, self.body, self.stream, self.closing = status, headers, body, stream, closing


def header_lines(headers: "Iterable[tuple[bytes, bytes]]") -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


def since_arrival_s(arrival: "bytes | None", longest_s: float) -> float:
    """Seconds since the gateway first saw a request, by its header `x-argosy-arrival` (milliseconds since 1970).

    The clock of the wall may have been set meanwhile: what cannot be, or is beyond `longest_s`, counts as no time.
    """
    if arrival is None or not _MILLISECONDS(arrival):
        return 0.0
    age_s = time() - int(arrival) / 1000
    return age_s if 0 < age_s < longest_s else 0.0


JSON_TYPE = b"content-type: application/json\r\n"


class Request:
    """One request. `headers` has lower-case names; of repeated ones the last counts. `whole`: `body` is all of it.

    Lives on the loop; only `gone` may be asked from other threads. `arrived_at` is of the monotonic clock.
    """

    __slots__ = (
        "_connection", "_limit_bytes", "_refused", "_size", "_then", "_timer", "arrived_at", "body", "headers",
        "keep_alive", "method", "parts", "path", "query", "refusal", "version", "whole",
    )  # fmt: skip

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.headers: dict[bytes, bytes] = {}
        self.method, self.path, self.query, self.version = "", "", b"", "1.1"
        self.body = b""
        self.parts: list[bytes] | None = None
        self.whole = False
        self.keep_alive = True
        self.arrived_at = 0.0
        self.refusal: Refusal | None = None  # it is no HTTP
        self._then: Callable[[], None] | None = None

    def gone(self) -> bool:
        """True when the caller has closed the connection."""
        return self._connection.gone

    @property
    def behind_gateway(self) -> bool:
        """The gateway sent it: its headers about callers can be believed."""
        return self._connection.behind_gateway

    def respond(self, answer: Answer) -> None:
        """Once for each request, now or later."""
        self._connection.respond(self, answer)

    def read(
        self, limit_bytes: int, limit_s: float, then: Callable[[], None], refused: Callable[[Refusal], None]
    ) -> None:
        """Call `then` once the body is whole, or `refused` with TooLarge or BodyTimeout; neither when the caller left.

        A body whose announced length is too large is refused before it is read.
        """
        length = self.headers.get(b"content-length")
        if (length is not None and int(length) > limit_bytes) or len(self.body) > limit_bytes:
            refused(TooLarge(limit_bytes))
        elif self.whole:
            then()
        else:
            self._then, self._refused, self._limit_bytes = then, refused, limit_bytes
            self._size = sum(map(len, self.parts or ()))
            self._timer = self._connection.loop.call_later(limit_s, self.give_up, BodyTimeout(limit_s))
            expects = self.version == "1.1" and self.headers.get(b"expect", b"").lower() == b"100-continue"
            if expects and not self.parts:
                self._connection.write(_CONTINUE)
            if self._size > limit_bytes:
                self.give_up(TooLarge(limit_bytes))

    def add(self, data: bytes) -> None:
        """More of the body."""
        if self.parts is None:
            self.parts = [data]
        else:
            self.parts.append(data)
        if self._then is not None:
            self._size += len(data)
            if self._size > self._limit_bytes:
                self.give_up(TooLarge(self._limit_bytes))

    def complete(self) -> None:
        """The body is whole."""
        parts, self.parts = self.parts, None
        if parts is not None:
            self.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self.whole = True
        if (then := self.stop_reading()) is not None:
            then()

    def stop_reading(self) -> "Callable[[], None] | None":
        """What waits for the body, which is not to be called by anybody else."""
        then, self._then = self._then, None
        if then is not None:
            self._timer.cancel()
        return then

    def give_up(self, refusal: Refusal) -> None:
        """End `read` with a refusal, unless it has ended."""
        if self.stop_reading() is not None:
            self.parts = None
            self._refused(refusal)
