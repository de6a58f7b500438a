"""What is asked of a replica's admin socket, when somebody else owns the folder it lies in."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from argosy.environments.admin import ask

_ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"state": 12}'


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="argosy-a-"))  # short, since sockets lie in it
    yield path
    shutil.rmtree(path)


@pytest.fixture
def listen(folder: Path) -> Iterator[Callable[[Callable[[socket.socket], None]], Path]]:
    """Starts a server for one connection; the path of its socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(30)
    threads = []

    def start(serve: Callable[[socket.socket], None]) -> Path:
        listener.bind(str(folder / "real"))
        listener.listen()

        def one() -> None:
            with listener.accept()[0] as connection:
                connection.recv(65536)
                serve(connection)

        threads.append(threading.Thread(target=one, daemon=True))
        threads[0].start()
        return folder / "real"

    yield start
    threads[0].join(30)
    listener.close()


def test_a_link_is_not_followed(folder: Path, listen: Callable[[Callable[[socket.socket], None]], Path]) -> None:
    real = listen(lambda connection: connection.sendall(_ANSWER))
    (folder / "link").symlink_to(real)
    assert ask(str(folder / "link"), "GET", "/status") is None
    assert ask(str(real), "GET", "/status") == {"state": 12}


def test_one_that_drips_holds_nobody(listen: Callable[[Callable[[socket.socket], None]], Path]) -> None:
    """Each byte comes in time, the whole does not."""
    given_up = threading.Event()

    def drip(connection: socket.socket) -> None:
        for byte in _ANSWER:
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                return
            given_up.wait(0.05)

    path = listen(drip)
    answer = ask(str(path), "GET", "/status", timeout_s=0.3)
    given_up.set()
    assert answer is None


def test_nobody_there(folder: Path) -> None:
    (folder / "file").write_text("")
    assert ask(str(folder / "file"), "GET", "/status") is None
    assert ask(str(folder / "none"), "GET", "/status") is None
