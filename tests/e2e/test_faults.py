"""Callers who stall, replicas that stop, talk nonsense or hang, descriptors that run out: promises are kept, or callers
are told so in bounded time; and everything recovers without help."""

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from argosy.gateway.capacity import connection_limit
from e2e.calls import call
from e2e.load import Load
from e2e.running import Argosy, RecipeFolder

SCRIPT = """
import time

def run(numbers):
    if numbers[0] == -1:
        time.sleep(3600)
    return ["x" * 3_000_000] if numbers[0] == -2 else [2 * number for number in numbers]
"""
# Of 20 000 descriptors, a usual hard limit, the gateway takes 9 500 callers: each needs another towards a replica.
_IDLE = 9_000
_TIMEOUT_MS = 2_000


@pytest.fixture
def service(argosy: Argosy, recipe: RecipeFolder, request: pytest.FixtureRequest) -> str:
    """Two replicas."""
    name = str(request.node.name).removeprefix("test_").replace("_", "-")[:40].strip("-")
    limits = ("--request-timeout-ms", _TIMEOUT_MS, "--max-queue-wait-ms", _TIMEOUT_MS)
    argosy.ok("service", "create", name, "-m", recipe.model(2), *recipe.options(script=SCRIPT), "-z", "2", *limits)
    return name


@pytest.fixture
def raised_limit() -> Iterator[int]:
    """As many descriptors as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def url_of(argosy: Argosy, service: str) -> str:
    return str(argosy.json("service", "show", service)["scoring_url"])


def load_on(argosy: Argosy, service: str, connections: int = 4) -> Load:
    return Load(url_of(argosy, service), argosy.key(service), {"numbers": [1]}, connections)


def until(claim: Callable[[], Any], timeout_s: float = 90) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := claim()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
    return found


def replicas(argosy: Argosy, service: str) -> list[Any]:
    found: list[Any] = argosy.json("service", "show", service)["replicas"]
    return found


def socket_of(argosy: Argosy, replica: Any) -> Path:
    """The socket that the replica with this pid listens on."""
    words = psutil.Process(replica["pid"]).cmdline()
    spec = next(Path(word) for word in words if word.endswith("spec.json"))
    return Path(json.loads(spec.read_text())["listen"]["unix"])


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=90)


def head(url: str, key: str, length: int) -> bytes:
    return (
        f"POST {urlsplit(url).path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_callers_who_stall(argosy: Argosy, service: str) -> None:
    """In the head, in the body, and in reading the answer: others do not notice."""
    url, key = url_of(argosy, service), argosy.key(service)
    large = b'{"numbers": [-2]}'
    with contextlib.ExitStack() as stalled:
        half_heads, half_bodies = ([stalled.enter_context(connect(url)) for _ in range(60)] for _ in range(2))
        for client in half_heads:
            client.sendall(head(url, key, 10)[:50])
        for client in half_bodies:
            client.sendall(head(url, key, 100) + b'{"numbers": ')
        with load_on(argosy, service) as load:
            load.more(300)
        assert load.failures == {}
        for client in half_heads + half_bodies:
            assert client.recv(65536).split(b" ")[1] == b"408", "told, and closed"
            assert client.recv(65536) == b""
        readers = [stalled.enter_context(connect(url)) for _ in range(30)]
        for number, client in enumerate(readers):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(head(url, key, len(large)) + large)
            if number % 4 == 0:
                client.shutdown(socket.SHUT_WR)
        assert readers[1].recv(1) == b"H", "it begins, and is not read any further"
        with load_on(argosy, service) as load:
            load.more(300)
        assert set(load.outcomes) <= {"200", "429"}, "making large answers may fill the queue for a moment"
        assert load.outcomes["200"] > 100
    with load_on(argosy, service) as load:
        load.more(100)
    assert load.failures == {}


def test_nine_thousand_idle_connections(argosy: Argosy, service: str, raised_limit: int) -> None:
    """At the gateway; a few of them half closed. Others' requests go on, and so does the gateway when they are gone."""
    takes = connection_limit(raised_limit)
    assert takes > _IDLE, f"the gateway takes {takes} callers here: raise the hard limit of open files (20 000 will do)"
    url = url_of(argosy, service)
    with contextlib.ExitStack() as idle:
        for number in range(_IDLE):
            client = idle.enter_context(connect(url))
            if number % 10 == 0:
                client.sendall(b"POST /score HTT")
            if number % 100 == 0:
                client.shutdown(socket.SHUT_WR)
        with load_on(argosy, service) as load:
            load.more(300)
        assert load.failures == {}
    with load_on(argosy, service) as load:
        load.more(100)
    assert load.failures == {}


def test_a_stopped_replica_beside_one_that_works(argosy: Argosy, service: str) -> None:
    """SIGSTOP: its connections are accepted by the kernel and never answered."""
    victim = replicas(argosy, service)[0]["pid"]
    with load_on(argosy, service) as load:
        os.kill(victim, signal.SIGSTOP)
        try:
            good = load.outcomes["200"]
            load.wait_for(lambda: load.outcomes["200"] > good + 500)
            caught = until(lambda: load.failures)
        finally:
            os.kill(victim, signal.SIGCONT)
        assert set(caught) <= {"504"}, "those it had, and nothing else"
    until(lambda: argosy.json("service", "show", service)["replicas_ready"] == 2)
    with load_on(argosy, service) as load:
        load.more(300)
    assert load.failures == {}
    assert victim in {one["pid"] for one in replicas(argosy, service)}, "it was not replaced: it only slept"


def test_a_stopped_replica_alone(argosy: Argosy, service: str) -> None:
    argosy.ok("service", "scale", service, "-z", "1")
    until(lambda: len(replicas(argosy, service)) == 1)
    victim = replicas(argosy, service)[0]["pid"]
    url, key = url_of(argosy, service), argosy.key(service)
    os.kill(victim, signal.SIGSTOP)
    try:
        for _ in range(2):
            assert call(url, {"numbers": [1]}, token=key).status in (503, 504)
    finally:
        os.kill(victim, signal.SIGCONT)
    until(lambda: call(url, {"numbers": [1]}, token=key).status == 200)
    assert [one["pid"] for one in replicas(argosy, service)] == [victim]


class Impostor:
    """Listens in the place of a replica and says the same to everybody."""

    def __init__(self, path: Path, says: bytes) -> None:
        self._path, self._says = path, says
        self._real = path.with_name("real")

    def __enter__(self) -> "Impostor":
        self._path.rename(self._real)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(100)
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._real.rename(self._path)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, contextlib.suppress(OSError):
                    client.recv(65536)
                    client.sendall(self._says)


@pytest.mark.parametrize(
    "says",
    [b"", b"\x00\x01 nonsense \xff\r\n\r\n", b"HTTP/1.1 200 OK\r\n"],
    ids=["nothing", "nonsense", "half a head"],
)
def test_a_replica_that_talks_nonsense(argosy: Argosy, recipe: RecipeFolder, says: bytes) -> None:
    """Until its check fails, callers who meet it are told; from then on nobody meets it, until it is itself again."""
    service = "nonsense"
    if argosy("service", "show", service).code:
        options = (*recipe.options(script=SCRIPT), "-z", "2", "--request-timeout-ms", _TIMEOUT_MS)
        argosy.ok("service", "create", service, "-m", recipe.model(2), *options)
    url, key = url_of(argosy, service), argosy.key(service)
    with load_on(argosy, service) as load:
        with Impostor(socket_of(argosy, replicas(argosy, service)[0]), says):
            assert {outcome(url, key) for _ in range(20)} <= {"200", "502", "503", "closed"}
            until(lambda: quiet(load))
        until(lambda: argosy.json("service", "show", service)["replicas_ready"] == 2)
        load.more(200)
    assert told(load)
    with load_on(argosy, service) as load:
        load.more(200)
    assert load.failures == {}


def outcome(url: str, key: str) -> str:
    """HAProxy 2.6 closes a connection whose server goes away while the body is still being passed on."""
    try:
        return str(call(url, {"numbers": [1]}, token=key).status)
    except http.client.RemoteDisconnected:
        return "closed"


def told(load: Load) -> bool:
    """HAProxy answers the first request of a connection; a later one it closes, as HTTP wants it, to be repeated."""
    closed = ("RemoteDisconnected", "ConnectionResetError", "BrokenPipeError")
    return all(outcome in ("502", "503") or outcome.startswith(closed) for outcome in load.failures)


def quiet(load: Load) -> bool:
    """Nobody was refused for the next hundred requests."""
    before = dict(load.failures)
    load.more(100)
    return before == load.failures


def test_replicas_that_hang_are_replaced(argosy: Argosy, service: str) -> None:
    """All slots hang: callers get 504, the replica is unready, gives up by itself, and another one is started."""
    before = {one["pid"] for one in replicas(argosy, service)}
    url, key = url_of(argosy, service), argosy.key(service)
    statuses: list[int] = []
    callers = [
        threading.Thread(target=lambda: statuses.append(call(url, {"numbers": [-1]}, token=key).status))
        for _ in range(2)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert statuses == [504, 504]
    until(lambda: not before & {one["pid"] for one in replicas(argosy, service)})
    argosy.ok("service", "wait", service)
    with load_on(argosy, service) as load:
        load.more(100)
    assert load.failures == {}
    assert not any(psutil.pid_exists(pid) for pid in before)


def exhaust(pid: int, open_one: Callable[[], socket.socket], more: int = 15) -> list[socket.socket]:
    """Let this process have `more` descriptors than it has now, and open so many connections that it has none left."""
    limit = psutil.Process(pid).num_fds() + more
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    return [open_one() for _ in range(2 * more)]


def test_a_replica_without_descriptors(argosy: Argosy, service: str) -> None:
    victim = replicas(argosy, service)[0]
    path = socket_of(argosy, victim)

    def open_one() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        return client

    with load_on(argosy, service) as load:
        held = exhaust(victim["pid"], open_one)
        load.more(100)
        until(lambda: quiet(load))
        for client in held:
            client.close()
        until(lambda: argosy.json("service", "show", service)["replicas_ready"] == 2)
        load.more(200)
    assert told(load), load.failures
    assert victim["pid"] in {one["pid"] for one in replicas(argosy, service)}


def test_a_control_plane_without_descriptors(fresh: Argosy, recipe: RecipeFolder) -> None:
    fresh.up()
    fresh.ok("service", "create", "steady", "-m", recipe.model(2), *recipe.options(), "-z", "2")
    before = {one["pid"] for one in replicas(fresh, "steady")}
    address = fresh.address
    pid = address["pid"]
    port = urlsplit(address["url"]).port
    with load_on(fresh, "steady") as load:
        held = exhaust(pid, lambda: socket.create_connection(("127.0.0.1", port), timeout=90))
        time.sleep(5)
        load.more(200)
        for client in held:
            client.close()
        until(lambda: fresh("status").code == 0)
        fresh.ok("service", "wait", "steady")
        load.more(100)
    assert load.failures == {}, "the gateway and the replicas need nothing of it"
    shown = fresh.json("service", "show", "steady")
    assert (shown["state"], shown["replicas_ready"]) == ("healthy", 2)
    assert {one["pid"] for one in shown["replicas"]} == before, "nothing was replaced"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
    fresh.ok("service", "scale", "steady", "-z", "1")
    assert fresh.address["pid"] == pid
