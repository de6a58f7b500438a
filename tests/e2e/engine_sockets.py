"""Container engines of their own for tests, each reached through the socket that its users have."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.containers import Podman

_START_S = 60


@contextmanager
def podman_socket(program: str) -> Iterator[tuple[str, Podman]]:
    """(URL of the API, the same Podman as a command)."""
    podman = Podman(program, Path(tempfile.mkdtemp(prefix="podman-")))  # short: it refuses long folders
    url = f"unix://{podman.folder / 'api.sock'}"
    service = subprocess.Popen(podman.command("system", "service", "--time=0", url), env=podman.environ)
    try:
        _wait_for(podman.folder / "api.sock", service)
        yield url, podman
    finally:
        _end(service)
        podman.clean()
        shutil.rmtree(podman.folder, ignore_errors=True)


@contextmanager
def docker_socket(dockerd: str) -> Iterator[str]:
    """URL of the API of a Docker engine that makes no network of its own."""
    folder = Path(tempfile.mkdtemp(prefix="dockerd-"))
    places = ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
    network = ["--bridge=none", "--iptables=false"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [dockerd, *map(str, places), *network, "-H", f"unix://{folder / 'api.sock'}"], stdout=log, stderr=log
        )
    try:
        _wait_for(folder / "api.sock", daemon)
        yield f"unix://{folder / 'api.sock'}"
    finally:
        _end(daemon)
        # It leaves this mounted.
        subprocess.run(["umount", folder / "exec" / "netns" / "default"], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"{process.args!r} does not listen at {path}"
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
