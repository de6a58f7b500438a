"""Real container engines in folders of their own, which can be stopped and started: Podman's service and dockerd."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from argosy.environments.container.engine import ContainerEngine
from argosy.environments.container.replica import HOME, SERVICE
from argosy.errors import Error

_CONFIGURATION = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
"""
_PATIENCE_S = 60.0


@dataclass
class EngineServer:
    """`kind` is podman or docker, `program` podman or dockerd. `folder` holds all that it keeps."""

    kind: str
    program: str
    folder: Path

    def __post_init__(self) -> None:
        self.engine = ContainerEngine(self.url)

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/sock"

    @property
    def bridge(self) -> str:
        """The network device of its containers: names of devices have 15 letters at most."""
        return f"br-{self.folder.name[-8:]}"

    def start(self) -> None:
        (self.folder / "containers.conf").write_text(_CONFIGURATION)
        sock = self.folder / "sock"
        sock.unlink(missing_ok=True)
        places = {
            "podman": [
                *("--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run"),
                *("system", "service", "--time=0", self.url),
            ],
            # It shares the machine's packet filter with other engines, so it goes without; ports need none.
            "docker": [
                *("--data-root", f"{self.folder}/root", "--exec-root", f"{self.folder}/run", "-H", self.url),
                *("--pidfile", f"{self.folder}/pid", "--bridge", self.bridge, "--iptables=false", "--ip-masq=false"),
            ],
        }[self.kind]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.program, *places],
                # Podman's monitor leaves a file `oom` where it was started.
                cwd=self.folder,
                env={**os.environ, "CONTAINERS_CONF": str(self.folder / "containers.conf")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            if sock.exists():
                with contextlib.suppress(Error):
                    self.engine.ping()
                    return
            assert time.monotonic() < deadline and self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Podman's containers go on without it, those of Docker end with it unless it keeps them."""
        self._process.send_signal(number)
        self._process.wait(_PATIENCE_S)

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def names(self, home: Path, service: str) -> set[str]:
        """The containers of a service, ended ones too."""
        self.engine.down = None
        return {found.name for found in self.engine.labelled({HOME: str(home), SERVICE: service})}

    def clean(self) -> None:
        """Everything it keeps, mounts included."""
        if self._process.poll() is not None:
            self.start()
        for found in self.engine.labelled({}):
            self.engine.remove(found.name)
        self.engine.close()
        self.stop()


@contextlib.contextmanager
def running(kind: str, program: str, store_bytes: int = 0) -> Iterator[EngineServer]:
    """With `store_bytes` it has room for images of so many bytes."""
    # Short: Podman refuses long folders.
    server = EngineServer(kind, program, Path(tempfile.mkdtemp(prefix=f"{kind}-")))
    if kind == "docker":
        _make_bridge(server.bridge)
    store = server.folder / "root"
    store.mkdir()
    if store_bytes:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={store_bytes}", "tmpfs", store], check=True)
    try:
        server.start()
        yield server
    finally:
        server.clean()
        # Podman leaves its store mounted on itself.
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((path for path in mounted if path.startswith(str(server.folder))), reverse=True):
            subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(server.folder, ignore_errors=True)
        if kind == "docker":
            subprocess.run(["ip", "link", "delete", server.bridge], check=False)


def _make_bridge(name: str) -> None:
    network = f"10.{200 + secrets.randbelow(20)}.{secrets.randbelow(256)}.1/24"
    subprocess.run(["ip", "link", "add", "name", name, "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", network, "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
