"""Connections to foreign hosts that cannot be turned against the network the server stands in.

A name is resolved once, every address it has is checked, and the connection goes to a checked address: a name that
answers differently the second time (DNS rebinding) gains nothing.
"""

import contextlib
import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult

from argosy.errors import FetchFailed


@dataclass(frozen=True)
class Pace:
    """How long a server may take. `opening` is the TLS handshake, and then the answer up to its headers.

    It must send `slowest_bytes_per_s` on average over any `window_s`.
    """

    connect_timeout_s: float = 10.0
    opening_timeout_s: float = 60.0
    silence_timeout_s: float = 30.0
    slowest_bytes_per_s: int = 1024
    window_s: float = 30.0
    clock: Callable[[], float] = time.monotonic


def checked_addresses(host: str, port: int, allow_private: bool, url: str) -> list[tuple[Any, ...]]:
    """What `getaddrinfo` knows of `host`; FetchFailed when there is nothing, or anything that is not public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        raise FetchFailed(url, f"the name {host!r} has no address ({problem}). Check the spelling.") from problem
    for *_, address in found:
        if not allow_private and not is_public(str(address[0])):
            raise FetchFailed(
                url,
                f"{host} has the address {address[0]}, which is not public. An administrator can set "
                "allow_private_urls; or download the file and register it from disk.",
            )
    return found


def is_public(address: str) -> bool:
    """Whether an address belongs to the open Internet, whatever IPv6 wrapping it comes in."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # RFC 4291 2.5.5.2 and RFC 6052: IPv4 in other clothes.
        plain = ip.ipv4_mapped or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if plain is not None:
            return is_public(str(plain))
        inner = ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None and not is_public(str(inner)):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_unspecified or ip.is_reserved or ip.is_link_local)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def connect(target: SplitResult, url: str, allow_private: bool, pace: Pace, tls: ssl.SSLContext) -> "Connection":
    """A connection to a checked address of the URL's host. `url` is what errors show."""
    assert target.hostname is not None  # checked with the URL
    port = target.port or (443 if target.scheme == "https" else 80)
    addresses = checked_addresses(target.hostname, port, allow_private, url)
    connected = _first_that_answers(addresses, target.hostname, url, pace)
    if target.scheme == "https":
        connected = _secured(connected, target.hostname, url, pace, tls)
    return Connection(target.hostname, port, connected, pace)


def _secured(plain: socket.socket, host: str, url: str, pace: Pace, tls: ssl.SSLContext) -> socket.socket:
    wrapped = None
    try:
        wrapped = tls.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        with CutOff(wrapped, pace.opening_timeout_s):
            wrapped.do_handshake()
    except (OSError, ValueError) as problem:
        (wrapped or plain).close()
        reason = getattr(problem, "verify_message", None) or getattr(problem, "reason", None) or str(problem)
        raise FetchFailed(url, f"no secure connection to {host}: {reason}. Check the host's certificate.") from problem
    return wrapped


def _first_that_answers(addresses: list[tuple[Any, ...]], host: str, url: str, pace: Pace) -> socket.socket:
    last: OSError | None = None
    for family, kind, protocol, _, address in addresses[:8]:
        plain = socket.socket(family, kind, protocol)
        plain.settimeout(pace.connect_timeout_s)
        try:
            plain.connect(address)
            return plain
        except OSError as problem:
            plain.close()
            last = problem
    raise FetchFailed(url, f"{host} does not answer ({last}). Try again later.") from last


class CutOff:
    """Ends a connection after `after_s`, whatever trickles in until then. A context manager."""

    def __init__(self, connected: socket.socket, after_s: float) -> None:
        self._connected = connected
        self._timer = threading.Timer(after_s, self._cut)
        self.fired = False

    def _cut(self) -> None:
        self.fired = True
        with contextlib.suppress(OSError):
            self._connected.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "CutOff":
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


class Connection(http.client.HTTPConnection):
    """http.client over a socket that is connected already. The caller ends it with `hang_up`."""

    def __init__(self, host: str, port: int, connected: socket.socket, pace: Pace) -> None:
        super().__init__(host, port)
        self.connected = connected
        self.sock: Any = _Socket(connected, pace)

    def connect(self) -> None:
        raise http.client.NotConnected

    def hang_up(self) -> None:
        self.connected.close()


class TooSlow(Exception):
    """The other side keeps the connection open and sends (almost) nothing."""


class _Socket:
    """What http.client needs of a socket, with the pace enforced on every read."""

    def __init__(self, connected: socket.socket, pace: Pace) -> None:
        self._connected = connected
        self._pace = pace

    def sendall(self, data: bytes) -> None:
        self._connected.settimeout(self._pace.silence_timeout_s)
        self._connected.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._connected, self._pace), 256 << 10)

    def close(self) -> None:
        """http.client closes before the body is read, counting on the file to keep a real socket open."""


class _Reader(io.RawIOBase):
    """Reads with two limits: silence, and too little within a window (a byte now and then is no silence)."""

    def __init__(self, connected: socket.socket, pace: Pace) -> None:
        self._connected = connected
        self._pace = pace
        self._window_start = pace.clock()
        self._window_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        pace, now = self._pace, self._pace.clock()
        if now - self._window_start > pace.window_s:
            if self._window_bytes < pace.window_s * pace.slowest_bytes_per_s:
                raise TooSlow
            self._window_start, self._window_bytes = now, 0
        self._connected.settimeout(pace.silence_timeout_s)
        received = self._connected.recv_into(target)
        self._window_bytes += received
        return received
