"""A loopback server that answers what a test tells it to, and keeps what it was asked."""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "secret-token"


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    port: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """`close` ends the connection after the answer without saying so before; `drop` ends it instead of answering."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False
    drop: bool = False


class FakeControlPlane:
    """Answers are queued per method and path; the last of a queue is given again and again. Blobs are kept."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.blobs: dict[str, bytes] = {}
        self._answers: dict[tuple[str, str], list[Answer]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, method: str, path: str, *answers: Any, status: int = 200) -> None:
        """Queue answers: `Answer`s, or bodies for `status`."""
        self._answers[method, path] = [
            given if isinstance(given, Answer) else Answer(given, status)
            for given in answers or (Answer(None, status),)
        ]

    def asked(self, method: str, path: str) -> list[Seen]:
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        if seen.headers.get("authorization") != f"Bearer {TOKEN}" and seen.path.startswith("/v1"):
            return Answer({"error": {"code": "unauthorized", "message": "wrong token", "details": {}}}, 401)
        queue = self._answers.get((seen.method, seen.path))
        if queue:
            return queue.pop(0) if len(queue) > 1 else queue[0]
        if (seen.method, seen.path) == ("POST", "/v1/blobs"):
            digest = hashlib.sha256(seen.body).hexdigest()
            self.blobs[digest] = seen.body
            return Answer({"sha256": digest, "size_bytes": len(seen.body)}, 201)
        if (seen.method, seen.path) == ("POST", "/v1/manifests/check"):
            return Answer({"notes": []})
        message = f"no answer for {seen.method} {seen.path}"
        return Answer({"error": {"code": "thing_not_found", "message": message, "details": {}}}, 404)


def _handler(fake: FakeControlPlane) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = fake.reply(Seen(self.command, parts.path, query, headers, body, self.client_address[1]))
            if answer.drop:
                self.close_connection = True
                return
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            if answer.body is None:
                content = b""
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = self.close_connection or answer.close

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quiet."""

    return Handler


def error(status: int, code: str, message: str, **details: Any) -> Answer:
    return Answer({"error": {"code": code, "message": message, "details": details}}, status)


def operation(state: str = "succeeded", messages: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": "op1", "kind": "service.create", "subject": "service/iris", "state": state, "step": "", "created_at": "",
        "updated_at": "", "messages": messages or [], **fields,
    }  # fmt: skip


def model(version: int = 1, files: Mapping[str, bytes] | None = None, **fields: Any) -> dict[str, Any]:
    contents = {"model.pkl": b"weights"} if files is None else files
    entries = [
        {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for path, content in contents.items()
    ]
    return {
        "name": "iris", "version": version, "digest": "d" * 64, "kind": "file", "files": entries,
        "size_bytes": sum(len(content) for content in contents.values()), "created_at": "2031-01-02T03:04:05.678Z",
        **fields,
    }  # fmt: skip


def service(**fields: Any) -> dict[str, Any]:
    return {
        "name": "iris", "environment": "local", "state": "healthy", "reason": "2 of 2 replicas ready",
        "url": "http://127.0.0.1:7780/api/v1/service/iris/", "scoring_url": "http://127.0.0.1:7780/x/score",
        "swagger_url": "http://127.0.0.1:7780/x/swagger.json", "docs_url": "http://127.0.0.1:7780/x/docs",
        "replicas_wanted": 2, "replicas_ready": 2, "live_revision": 3, "target_revision": 3, "settings": {},
        "created_at": "2031-01-02T03:04:05Z", "updated_at": "2031-01-02T03:04:05Z", "etag": "e1",
        "image": "iris:3", "manifest": "iris:3", "models": ["iris:1"], **fields,
    }  # fmt: skip


def usage(scoring_url: str, sample: Any = None) -> dict[str, Any]:
    return {
        "name": "iris", "scoring_url": scoring_url, "swagger_url": "s", "docs_url": "d",
        "headers": {"Authorization": "Bearer <key>"}, "sample": sample, "curl": "curl ...", "cli": "argosy service run",
        "keys_command": "argosy service keys iris", "logs_command": "argosy service logs iris",
    }  # fmt: skip


def page(*items: Any, following: str | None = None) -> dict[str, Any]:
    return {"items": list(items), "next": following}
