"""A listening socket and its connections. A unix socket is 0600, bound under another name and renamed."""

import asyncio
import os
import secrets
import socket
from email.utils import formatdate
from pathlib import Path
from time import monotonic

from argosy_serving.protocol import Connection, Handle
from argosy_serving.spec import Address

_BACKLOG = 2048


class Listener:
    """`handle` answers the requests of all its connections."""

    def __init__(self, handle: Handle, address: Address, shared: bool = False, behind_gateway: bool = False) -> None:
        """`shared`: every user who reaches the folder of a unix socket may connect. `behind_gateway`: who does
        is the gateway."""
        self._handle, self.address, self._shared, self._behind_gateway = handle, address, shared, behind_gateway
        self._connections: set[Connection] = set()
        self._date = b""
        self._server: asyncio.AbstractServer | None = None
        self.port = 0

    def __str__(self) -> str:
        return f"{self.address.host}:{self.port}" if self.port else str(self.address)

    async def open(self) -> None:
        """Raises OSError when the address cannot be had."""
        listening = bind_unix(Path(self.address.unix), self._shared) if self.address.unix else _bind_tcp(self.address)
        if not self.address.unix:
            self.port = listening.getsockname()[1]
        self.tick()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._handle, self._connections, lambda: self._date, self._behind_gateway),
            sock=listening,
            backlog=_BACKLOG,
        )

    def tick(self) -> None:
        """Once a second: the Date header, and connections where nothing moves."""
        self._date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        now = monotonic()
        for connection in list(self._connections):
            connection.tick(now)

    @property
    def busy(self) -> bool:
        """Requests wait for their answers, or callers for the rest of one."""
        return any(connection.busy or connection.unsent for connection in self._connections)

    def hide(self) -> None:
        """Let no new caller find the socket; those that have connected are still served."""
        if self.address.unix:
            Path(self.address.unix).unlink(missing_ok=True)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end()
        await asyncio.sleep(0)  # lets the transports close


def bind_unix(path: Path, shared: bool = False) -> socket.socket:
    """Only this user can connect, unless it is `shared`. Bound under another name and renamed: there is never a moment
    without it."""
    temporary = path.with_name(f".{secrets.token_hex(4)}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o111 if shared else 0o177)
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
