"""A real replica in its own process, on unix sockets in a short folder, and a plain HTTP client for them."""

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
# Another interpreter with argosy_serving.REQUIREMENTS, numpy and pandas shows that replicas run on it too.
PYTHON = os.environ.get("ARGOSY_TEST_REPLICA_PYTHON", sys.executable)
KEY = "the-primary-key"
OTHER_KEY = "the-secondary-key"
PREFIX = "/api/v1/service/iris"


def key_hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float = 30) -> None:
        super().__init__("replica", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def exchange(path: Path, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
    connection = UnixConnection(path)
    try:
        connection.request(method, url, body, dict(headers))
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@dataclass
class Replica:
    """One replica process and its folder. `start` waits until it is ready unless told otherwise."""

    folder: Path
    python: str = PYTHON
    source: Path = SOURCE
    process: "subprocess.Popen[bytes] | None" = None
    spec: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def sock(self) -> Path:
        return self.folder / "sock"

    @property
    def admin_socket(self) -> Path:
        return self.folder / "admin"

    def write_image(
        self,
        script: str,
        schema: Any = None,
        samples: list[Any] | None = None,
        models: Mapping[str, Mapping[str, bytes]] | None = None,
        **more: Any,
    ) -> None:
        image = self.folder / "image"
        (image / "code").mkdir(parents=True, exist_ok=True)
        (image / "code" / "score.py").write_text(script)
        listed = []
        for name, files in (models or {}).items():
            place = image / "models" / name / "1"
            place.mkdir(parents=True)
            for file, content in files.items():
                (place / file).write_bytes(content)
            listed.append({"name": name, "version": 1, "kind": "file", "files": list(files)})
        document = {"digest": "d", "name": "iris:1", "manifest": "iris:1", "models": listed, "script": "score.py",
                    "schema": schema, "samples": samples or [], "serving": {}, **more}  # fmt: skip
        (image / "image.json").write_text(json.dumps(document))

    def write_settings(self, **changes: Any) -> None:
        settings = {"generation": 1, "keys": [key_hash(KEY), key_hash(OTHER_KEY)], **changes}
        temporary = self.folder / "settings.new"
        temporary.write_text(json.dumps(settings))
        temporary.replace(self.folder / "settings.json")

    def launch(self, **spec: Any) -> None:
        f = self.folder
        self.spec = {
            "id": "iris-1-abc", "service": "iris", "revision": 3, "image": str(f / "image"),
            "listen": {"unix": str(self.sock)}, "admin": {"unix": str(self.admin_socket)},
            "lock": str(f / "lock"), "failure": str(f / "failure.json"), "scratch": str(f / "scratch"),
            "settings": str(f / "settings.json"), "log": str(f / "log"), **spec,
        }  # fmt: skip
        if not (f / "settings.json").exists():
            self.write_settings()
        (f / "spec.json").write_text(json.dumps(self.spec))
        self.process = subprocess.Popen(
            [self.python, "-m", "argosy_serving", str(f / "spec.json")],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self.source), **self.variables},
            cwd=f,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.processes.append(self.process)

    def start(self, **spec: Any) -> "Replica":
        self.launch(**spec)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if self.get("/readyz").status == 200:
                    return self
            except OSError:
                pass
            assert self.process is not None
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"not ready: {self.log_text()}")

    def connection(self) -> UnixConnection:
        """One that the caller keeps, and closes."""
        return UnixConnection(self.sock)

    def get(
        self, url: str, headers: Mapping[str, str] | None = None, method: str = "GET", sock: Path | None = None
    ) -> Reply:
        return exchange(sock or self.sock, method, url, None, headers or {})

    def score(
        self, body: Any, headers: Mapping[str, str] | None = None, url: str = "/score", sock: Path | None = None
    ) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **(headers or {})}
        return exchange(sock or self.sock, "POST", url, raw, all_headers)

    def aside(self, body: Any) -> list[Reply]:
        """Score in a thread; the list gets the reply, or stays empty when the replica goes away."""
        replies: list[Reply] = []

        def call() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                replies.append(self.score(body))

        self.threads.append(threading.Thread(target=call))
        self.threads[-1].start()
        return replies

    def admin(self, method: str, url: str, body: Any = None) -> Reply:
        raw = None if body is None else json.dumps(body).encode()
        return exchange(self.admin_socket, method, url, raw, {})

    def wait(self, timeout_s: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def log_text(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]

    def failure(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / "failure.json").read_text())
        return found

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def make_replica() -> Iterator[Callable[[], Replica]]:
    """Replicas in folders under /tmp, for unix paths are short; killed and removed in the end."""
    made: list[Replica] = []

    def make() -> Replica:
        made.append(Replica(Path(tempfile.mkdtemp(dir="/tmp", prefix="rep-"))))
        return made[-1]

    yield make
    for replica in made:
        replica.close()
        shutil.rmtree(replica.folder, ignore_errors=True)


@pytest.fixture
def replica(make_replica: Callable[[], Replica]) -> Replica:
    return make_replica()


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Wait for something to become true; its value."""

    def wait(condition: Callable[[], Any], timeout_s: float = 15) -> Any:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.02)
        raise AssertionError("it never became true")

    return wait
