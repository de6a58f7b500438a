"""The engine's API over a real socket: what its client asks for, and what a hanging or failing one does to others."""

import http.server
import json
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy.environments.container.engine import ContainerEngine, Order
from argosy.errors import EngineUnreachable, StorageFailed
from argosy.images.docker import engine as module

ORDER = Order("argosy-x", "image", ["spec"], "1:1", {"MINE": "1"}, {}, {})


class Daemon(socketserver.ThreadingUnixStreamServer):
    """Answers as Docker does. It asks for nothing; with `go_on` unset it hangs."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Answers)
        self.url = f"unix://{path}"
        self.go_on = threading.Event()
        self.go_on.set()
        self.asked: list[str] = []
        self.bodies: list[Any] = []


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Daemon
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.go_on.wait(60)
        if self.path.endswith("/version"):
            return self._answer({"ApiVersion": "1.41", "Version": "20.10"})
        if self.path.endswith("/_ping"):
            return self._answer("OK")
        return self._answer({"message": "no such container"}, 404)

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "null"))
        self._answer({"Id": "made"}, 201)

    def _answer(self, content: object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="argosy-d-"))  # short, since a socket lies in it
    with Daemon(folder / "sock") as daemon:
        threading.Thread(target=daemon.serve_forever, args=[0.01]).start()
        yield daemon
        daemon.go_on.set()
        daemon.shutdown()
    shutil.rmtree(folder)


@pytest.fixture
def engine(daemon: Daemon) -> Iterator[ContainerEngine]:
    engine = ContainerEngine(daemon.url)
    yield engine
    engine.close()


def test_who_knocks_does_not_wait_for_those_that_hang(
    daemon: Daemon, engine: ContainerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call asks for the version, which takes as long as any."""
    monkeypatch.setattr(module, "_PING_TIMEOUT_S", 0.2)
    daemon.go_on.clear()
    hanging = threading.Thread(target=engine.look, args=["x"])
    hanging.start()
    while not daemon.asked:
        hanging.join(0.01)
    with pytest.raises(EngineUnreachable, match="no answer in time"):
        engine.ping()
    assert hanging.is_alive()
    daemon.go_on.set()
    hanging.join()
    assert engine.down is None, "it answered after all"


def test_a_container_gets_no_proxy_of_the_machines_configuration(
    daemon: Daemon, engine: ContainerEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"proxies": {"default": {"httpProxy": "http://me:secret@proxy:1"}}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    engine.run(ORDER)
    assert daemon.bodies[0]["Env"] == ["MINE=1"]


def test_an_image_that_cannot_be_read_is_no_dead_engine(engine: ContainerEngine) -> None:
    def content() -> Iterator[bytes]:
        yield b"the beginning"
        raise OSError(5, "Input/output error", "/blobs/1")

    with pytest.raises(StorageFailed, match=r"cannot be read: Input/output error \(/blobs/1\)"):
        engine.load(content())
    assert engine.down is None
    engine.ping()


class Flickering(ContainerEngine):
    """Another thread finds that it answers again, between any two looks at `down`."""

    _down: EngineUnreachable | None = None

    @property
    def down(self) -> EngineUnreachable | None:
        found, self._down = self._down, None
        return found

    @down.setter
    def down(self, problem: EngineUnreachable | None) -> None:
        self._down = problem


def test_one_that_comes_back_at_this_very_moment(daemon: Daemon) -> None:
    engine = Flickering(daemon.url)
    engine.down = EngineUnreachable(daemon.url, "Connection refused", "")
    with pytest.raises(EngineUnreachable):
        engine.look("x")
    assert engine.look("x") is None
    engine.close()
