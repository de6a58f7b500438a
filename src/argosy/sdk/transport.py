"""Requests over `http.client`: one connection a thread and origin at a time, kept alive, files sent by sendfile."""

import http.client
import os
import select
import socket
import ssl
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from argosy.errors import ConnectionLost, Error, InvalidFile, InvalidOption, NotRunning, SystemFailure, TimedOut
from argosy.sdk.address import Address, check_url
from argosy.sdk.wire import CHUNK_BYTES, Request, Response, check

_CONNECT_TIMEOUT_S = 10.0
# Large enough that a step costs nothing, small enough that a progress bar moves.
_SENDFILE_BYTES = 8 << 20
Origin = tuple[str, str, int | None, str | None]


class Transport:
    """Owns the connections. Threads may share one; `close` drops the idle ones."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: defaultdict[Origin, deque[http.client.HTTPConnection]] = defaultdict(deque)

    def send(self, request: Request) -> Response:
        """The answer, whatever its status. Raises NotRunning, ConnectionLost, TimedOut or another SystemFailure."""
        try:
            return self._send_once(request)
        except ConnectionLost:
            if not request.safe_to_repeat:
                raise
        return self._send_once(request)

    def stream(self, request: Request) -> Iterator[bytes]:
        """The body of a 2xx answer as it comes in."""
        with self._exchange(request) as (connection, answer):
            try:
                if not 200 <= answer.status < 300:
                    check(_response(answer, answer.read()))
                while piece := answer.read1(CHUNK_BYTES):
                    yield piece
            finally:
                connection.close()

    def close(self) -> None:
        for waiting in self._idle.values():
            while waiting:
                waiting.pop().close()

    def _send_once(self, request: Request) -> Response:
        with self._exchange(request) as (connection, answer):
            if request.sink is not None and 200 <= answer.status < 300:
                while piece := answer.read(CHUNK_BYTES):
                    request.sink(piece)
                response = _response(answer, b"")
            else:
                response = _response(answer, answer.read())
            if answer.will_close:
                connection.close()
            else:
                self._idle[self._origin(request)].append(connection)
            return response

    @contextmanager
    def _exchange(self, request: Request) -> Iterator[tuple[http.client.HTTPConnection, http.client.HTTPResponse]]:
        """Send it and hold the answer; whatever goes wrong closes the connection and is told as our own error."""
        connection = self._connection(request)
        try:
            yield connection, self._answer(connection, request)
        except Error:
            connection.close()
            raise
        except (http.client.HTTPException, OSError) as problem:
            connection.close()
            raise self._translate(request, problem) from problem
        except BaseException:
            connection.close()
            raise

    def _answer(self, connection: http.client.HTTPConnection, request: Request) -> http.client.HTTPResponse:
        parts = urlsplit(self._url(request))
        connection.putrequest(
            request.method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), skip_accept_encoding=True
        )
        for name, value in request.all_headers(self._address.token).items():
            connection.putheader(name, value)
        if request.upload is not None:
            _send_file(connection, request.upload, request.on_sent)
        else:
            body = request.body()
            if body is not None or request.method in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(body or b"")))
            # A server that refuses early closes its side while we send; its answer is then read.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.endheaders(body)
        return connection.getresponse()

    def _connection(self, request: Request) -> http.client.HTTPConnection:
        """An idle connection that the server has not closed, else a new one."""
        origin = self._origin(request)
        waiting = self._idle[origin]
        while waiting:
            connection = waiting.pop()
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                connection.sock.settimeout(request.timeout_s)
                return connection
            connection.close()
        return self._connect(origin, request)

    def _connect(self, origin: Origin, request: Request) -> http.client.HTTPConnection:
        scheme, host, port, ca_file = origin
        connection: http.client.HTTPConnection
        if scheme == "https":
            connection = http.client.HTTPSConnection(
                host, port, timeout=_CONNECT_TIMEOUT_S, context=tls_context(ca_file), blocksize=CHUNK_BYTES
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_CONNECT_TIMEOUT_S, blocksize=CHUNK_BYTES)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as problem:
            raise SystemFailure(
                f"The certificate of {self._where(request)} is not trusted: {problem.verify_message}. "
                "Set ARGOSY_CA_FILE to the certificate of its authority."
            ) from problem
        except ssl.SSLError as problem:
            raise SystemFailure(
                f"{self._where(request)} does not speak TLS as we do: {problem.reason or problem}."
            ) from problem
        except (OSError, UnicodeError) as problem:
            connection.close()
            raise unreachable(request, self._where(request)) from problem
        connection.sock.settimeout(request.timeout_s)
        return connection

    def _origin(self, request: Request) -> Origin:
        parts = urlsplit(self._url(request))
        return parts.scheme, parts.hostname or "", parts.port, request.ca_file or self._address.ca_file

    def _url(self, request: Request) -> str:
        return check_url(request.target) if request.external else self._address.url + request.target

    def _where(self, request: Request) -> str:
        parts = urlsplit(self._url(request))
        return f"{parts.scheme}://{parts.netloc}"

    def _translate(self, request: Request, problem: Exception) -> Error:
        return translate(request, self._where(request), problem)


def unreachable(request: Request, where: str) -> Error:
    if request.external:
        return SystemFailure(f"The gateway at {where} does not answer. `argosy status` says how it is.", {"url": where})
    return NotRunning(where)


def translate(request: Request, where: str, problem: Exception) -> Error:
    """A foreign error as ours."""
    if isinstance(problem, TimeoutError | socket.timeout):
        return TimedOut(
            f"The answer of {where} to {request.method} {urlsplit(request.path).path}", request.timeout_s or 0
        )
    return ConnectionLost(where, str(problem) or type(problem).__name__)


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as problem:
        raise InvalidOption("the CA file", ca_file, f"it cannot be read as PEM certificates: {problem}") from problem


def _response(answer: http.client.HTTPResponse, content: bytes) -> Response:
    return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)


def _send_file(connection: http.client.HTTPConnection, path: Path, on_sent: Callable[[int], object] | None) -> None:
    """The rest of the request with the file as its body, sent by the kernel where the connection is not encrypted.

    A server that refuses early (too large, disk full) closes its side while we send; its answer is then read.
    """
    try:
        file = path.open("rb")
    except OSError as problem:
        raise InvalidFile(path, f"cannot be read: {problem.strerror}") from problem
    with file:
        size_bytes = os.fstat(file.fileno()).st_size
        connection.putheader("Content-Length", str(size_bytes))
        connection.endheaders()
        sent = 0
        try:
            while sent < size_bytes:
                count = connection.sock.sendfile(file, sent, min(_SENDFILE_BYTES, size_bytes - sent))
                if not count:
                    raise InvalidFile(path, "became shorter while it was being uploaded")
                sent += count
                if on_sent:
                    on_sent(sent)
        except (BrokenPipeError, ConnectionResetError):
            return
