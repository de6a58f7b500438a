"""Raw sockets to a replica: requests by the byte, and one response at a time."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PLAIN = {"input": {"x": {"type": "standard", "swagger": {}, "example": 1}}}
AUTH = b"Authorization: Bearer the-primary-key\r\n"


@contextmanager
def connected(replica: Any) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(replica.sock))  # waits when very many do, which it would not with a time-out
        client.settimeout(20)
        yield client


def read_one(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One response; what follows it stays unread."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        assert byte, f"closed after {head!r}"
        head += byte
    first, *lines = head.decode().split("\r\n")[:-2]
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    body = b""
    length = int(headers.get("content-length", 0))
    while len(body) < length:
        piece = client.recv(length - len(body))
        assert piece, "closed within a body"
        body += piece
    return int(first.split()[1]), headers, body


def post(body: bytes, *lines: bytes) -> bytes:
    head = b"POST /score HTTP/1.1\r\nHost: x\r\n" + AUTH + b"".join(line + b"\r\n" for line in lines)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


BODY = b'{"x":[1,2,3]}'
