"""The admin socket of a replica: HTTP with JSON over a unix socket (docs/architecture.md)."""

import http.client
import json
import os
import socket
import stat
import time
from typing import Any

_MOST_BYTES = 1_000_000


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the unix socket at `path`, with one time-out for all of the answer. OSError when it is no socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("replica", timeout=timeout_s)
        self._path, self._timeout_s = path, timeout_s

    def connect(self) -> None:
        if not is_socket(self._path):
            raise OSError(None, "it is no socket", self._path)
        self.sock = _Hurried(self._timeout_s)
        self.sock.connect(self._path)


class _Hurried(socket.socket):
    """A unix socket whose time-out is for all that comes together: one that drips must not hold anybody."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._end_s = time.monotonic() + timeout_s
        self.settimeout(timeout_s)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.settimeout(left_s)
        return super().recv_into(buffer, nbytes, flags)


def is_socket(path: str) -> bool:
    """Not a link to one: who owns the folder could lead us to somebody else's. Raises OSError when nothing is there."""
    return stat.S_ISSOCK(os.lstat(path).st_mode)


def ask(path: str, method: str, target: str, body: Any = None, timeout_s: float = 2.0) -> dict[str, Any] | None:
    """The JSON answer, None when nobody (or nobody sane) answers in time."""
    connection = UnixConnection(path, timeout_s)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, target, content, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read(_MOST_BYTES))
        return answer if response.status < 300 and isinstance(answer, dict) else None
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return None
    finally:
        connection.close()
