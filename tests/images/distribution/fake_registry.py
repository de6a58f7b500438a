"""A small registry in this process that misbehaves as it is told.

`faults` hold answers for the next requests whose `METHOD /path` begins with a key; the rest is answered well.
"""

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    size: int = 0


Fault = Callable[["Handler"], None]


@dataclass
class FakeRegistry:
    """`check` looks at a request's Authorization and answers with a challenge, or None to let it in."""

    check: Callable[[Seen], str | None] = lambda seen: None
    has_referrers: bool = False
    knows_range: bool = True
    least_chunk_bytes: int | None = None
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    routes: dict[str, Callable[["Handler"], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"registry": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault(self, start: str, *faults: Fault) -> None:
        self.faults[start].extend(faults)

    def asked(self, start: str) -> list[Seen]:
        return [seen for seen in self.seen if f"{seen.method} {seen.path}".startswith(start)]


class Handler(BaseHTTPRequestHandler):
    registry: FakeRegistry
    protocol_version = "HTTP/1.1"
    path: str

    def log_message(self, *_args: Any) -> None:
        pass

    def handle(self) -> None:
        # Clients hang up, and so do our faults.
        with contextlib.suppress(ConnectionError, OSError):
            super().handle()

    def answer(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, announced: int | None = None
    ) -> None:
        """`announced` is a Content-Length other than the body's own."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if announced is not None:
            self.close_connection = True

    def read(self, size: int | None = None) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)) if size is None else size)

    def reset(self) -> None:
        """End the connection with an RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _any(self) -> None:
        parts = urlsplit(self.path)
        size = int(self.headers.get("content-length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, parse_qs(parts.query), headers, size)
        self.registry.seen.append(seen)
        line = f"{self.command} {parts.path}"
        for start, faults in self.registry.faults.items():
            if line.startswith(start) and faults:
                return faults.popleft()(self)
        for start, route in self.registry.routes.items():
            if line.startswith(start):
                return route(self)
        challenge = self.registry.check(seen)
        if challenge is not None:
            self.read()
            return self.answer(401, _error("UNAUTHORIZED", "authentication required"), {"WWW-Authenticate": challenge})
        return self._well(seen)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _any  # noqa: N815

    def _well(self, seen: Seen) -> None:
        if seen.path == "/v2/":
            return self.answer(200, b"{}")
        if found := re.fullmatch(r"/v2/(.+)/blobs/uploads/(\w*)", seen.path):
            return self._upload(seen, found[1], found[2])
        if found := re.fullmatch(r"/v2/(.+)/(blobs|manifests|referrers)/([^/]+)", seen.path):
            return getattr(self, f"_{found[2]}")(found[1], found[3])  # type: ignore[no-any-return]
        return self.answer(404)

    def _upload(self, seen: Seen, path: str, upload: str) -> None:
        uploads = self.registry.uploads
        if seen.method == "POST":
            upload = f"u{len(uploads)}"
            uploads[upload] = bytearray()
        elif upload not in uploads:
            self.read()
            return self.answer(404, _error("BLOB_UPLOAD_UNKNOWN", "upload unknown"))
        received = uploads[upload]
        received += self.read()
        location = {"Location": f"/v2/{path}/blobs/uploads/{upload}?state=x%3D"}
        if self.registry.least_chunk_bytes is not None:
            location["OCI-Chunk-Min-Length"] = str(self.registry.least_chunk_bytes)
        if seen.method == "PUT":
            wanted = seen.query["digest"][0]
            if digest_of(bytes(received)) != wanted:
                return self.answer(400, _error("DIGEST_INVALID", "provided digest did not match"))
            self.registry.blobs[wanted] = bytes(received)
            return self.answer(201)
        status = 204 if seen.method == "GET" else 202
        return self.answer(status, headers={"Range": f"0-{max(len(received) - 1, 0)}", **location})

    def _blobs(self, _path: str, digest: str) -> None:
        content = self.registry.blobs.get(digest)
        if content is None:
            return self.answer(404, _error("BLOB_UNKNOWN", "blob unknown"))
        found = re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("range", ""))
        if found and self.registry.knows_range:
            start = int(found[1])
            shown = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self.answer(206, content[start:], {"Content-Range": shown})
        return self.answer(200, content)

    def _manifests(self, path: str, reference: str) -> None:
        manifests = self.registry.manifests
        if self.command == "PUT":
            content, media_type = self.read(), self.headers["content-type"]
            manifests[f"{path}/{reference}"] = manifests[f"{path}/{digest_of(content)}"] = media_type, content
            more = {"OCI-Subject": "yes"} if self.registry.has_referrers and b'"subject"' in content else {}
            return self.answer(201, headers={"Docker-Content-Digest": digest_of(content), **more})
        found = manifests.get(f"{path}/{reference}")
        if found is None:
            return self.answer(404, _error("MANIFEST_UNKNOWN", "manifest unknown"))
        return self.answer(200, found[1], {"Content-Type": found[0], "Docker-Content-Digest": digest_of(found[1])})

    def _referrers(self, path: str, digest: str) -> None:
        if not self.registry.has_referrers:
            return self.answer(404, b"404 page not found", {"Content-Type": "text/plain"})
        found = {
            digest_of(content): len(content)
            for name, (_, content) in self.registry.manifests.items()
            if name.startswith(path) and json.loads(content).get("subject", {}).get("digest") == digest
        }
        media_type = "application/vnd.oci.image.index.v1+json"
        entries = [{"digest": key, "size": size, "mediaType": "x"} for key, size in found.items()]
        body = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
        return self.answer(200, json.dumps(body).encode(), {"Content-Type": media_type})


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def says(status: int, **headers: str) -> Fault:
    """Refuse with a status, the request read."""

    def fault(handler: Handler) -> None:
        handler.read()
        handler.answer(status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return fault


def takes_then_resets(size: int) -> Fault:
    """Keep the first `size` bytes of a chunk, then break the connection."""

    def fault(handler: Handler) -> None:
        upload = urlsplit(handler.path).path.rpartition("/")[2]
        handler.registry.uploads[upload] += handler.read(size)
        handler.reset()

    return fault


def sends_part(size: int) -> Fault:
    """Announce the whole blob, send `size` bytes from where it was asked for, and hang up."""

    def fault(handler: Handler) -> None:
        content = handler.registry.blobs[urlsplit(handler.path).path.rpartition("/")[2]]
        found = re.match(r"bytes=(\d+)-", handler.headers.get("range", ""))
        start = int(found[1]) if found else 0
        shown = f"bytes {start}-{len(content) - 1}/{len(content)}"
        headers = {"Content-Range": shown} if found else {}
        handler.answer(206 if found else 200, content[start : start + size], headers, len(content) - start)

    return fault


def resets(handler: Handler) -> None:
    handler.reset()
