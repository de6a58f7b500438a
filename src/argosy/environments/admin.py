"""The admin socket of a replica: HTTP with JSON over a unix socket (docs/architecture.md)."""

import http.client
import json
import socket
from typing import Any

_MOST_BYTES = 1_000_000


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the unix socket at `path`."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("replica", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


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
