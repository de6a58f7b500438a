"""The Docker or Podman that builds.

A step runs as an `exec` in a container that only waits, so that what it is given for the way (proxies, credentials) is
in no container's configuration and in no image that is committed from it.
"""

import contextlib
import os
import select
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from argosy.errors import EngineFailed
from argosy.images.docker.discovery import find_socket
from argosy.images.docker.engine import LOAD_TIMEOUT_S, Engine

# A step may be silent for hours; whoever waits wants to look up now and then.
_SILENCE_MS = 1000
_LABEL = "io.argosy.build"
_REPOSITORY = "localhost/argosy-build"
_WAIT = "while :; do sleep 1000; done"
# Both outputs through one pipe, so that lines come in the order in which they were written.
_IN_ORDER = ("/bin/sh", "-c", 'exec "$@" 2>&1', "step")
# In the engine's own /dev, which is in memory: no trace of the mount comes into a layer.
HANDED = "/dev/argosy"


def find_engine(environ: Mapping[str, str] = os.environ) -> "BuildEngine":
    """The one that DOCKER_HOST names, else the first of Docker's and Podman's sockets that answers. InvalidOption."""
    advice = (
        "set DOCKER_HOST=unix:///path/to.sock before `argosy up`, or build without an engine and without steps: "
        "--builder oci"
    )
    return BuildEngine(find_socket("--builder", "docker", advice, environ))


class BuildEngine(Engine):
    """Methods raise as those of Engine."""

    # Only its own build waits for it.
    timeout_s = LOAD_TIMEOUT_S
    meanwhile = "Steps that are finished are kept for the next build."

    @contextlib.contextmanager
    def container(self, tag: str, build: str, handed: Path) -> Iterator[str]:
        """A waiting container of the image; `handed` lies there at HANDED, to be read. It is gone afterwards."""
        with self._asking("start a container") as api:
            client = api(self.timeout_s)
            made = client.create_container(
                image_name(tag),
                command=["-c", _WAIT],
                entrypoint=["/bin/sh"],
                user="0",
                labels={_LABEL: build},
                host_config=client.create_host_config(
                    binds={str(handed): {"bind": HANDED, "mode": "ro,Z"}},
                    # A step reaches what the control plane reaches: proxies and indexes on this machine too.
                    network_mode="host",
                ),
                # Steps get proxies as they run, and keep none: not from the machine's configuration of Docker either.
                use_config_proxy=False,
            )
            container = str(made["Id"])
        try:
            with self._asking("start a container") as api:
                api(self.timeout_s).start(container)
            yield container
        finally:
            with contextlib.suppress(EngineFailed), self._asking("remove a container") as api:
                api(self.timeout_s).remove_container(container, v=True, force=True)

    def run(self, container: str, command: Sequence[str], variables: Mapping[str, str]) -> Generator[bytes, None, int]:
        """What it writes, as it comes, and nothing each second; the generator's value is the exit code."""
        with self._asking("run a step") as api:
            client = api(self.timeout_s)
            made = client.exec_create(
                container, [*_IN_ORDER, *command], environment=dict(variables), user="0", workdir="/", stdin=False
            )
            yield from _written(client, made["Id"])
            code = client.exec_inspect(made["Id"])["ExitCode"]
            if code is None:
                raise self._refusal("run a step", "it was ended from outside")
            return int(code)

    def commit(self, container: str, tag: str, keep: Callable[[bytes], object]) -> list[str]:
        """The diff ids of the container's layers; `keep` gets their archive as `docker save` writes it."""
        with self._asking("save a step") as api:
            client = api(self.timeout_s)
            client.commit(container, repository=_REPOSITORY, tag=tag)
            for piece in client.get_image(image_name(tag)):
                keep(piece)
            return [str(diff_id) for diff_id in client.inspect_image(image_name(tag))["RootFS"]["Layers"]]

    def clean(self, build: str) -> None:
        """Remove what a build has left behind: its containers, and its images."""
        with self._asking("clean up") as api:
            client = api(self.timeout_s)
            for found in client.containers(all=True, filters={"label": f"{_LABEL}={build}"}):
                client.remove_container(found["Id"], v=True, force=True)
        # The newest first, since each is the parent of the next.
        for name in sorted(self.tags(_REPOSITORY), reverse=True):
            if name.startswith(image_name(f"{build}-")):
                self.remove_image(name)


def image_name(tag: str) -> str:
    return f"{_REPOSITORY}:{tag}"


def _written(client: Any, exec_id: str) -> Iterator[bytes]:
    """What `exec_start` of the package streams too, with the connection closed afterwards."""
    from docker.utils import socket

    frames: Any = socket.frames_iter
    stream = client.exec_start(exec_id, socket=True)
    try:
        waiting = select.poll()
        waiting.register(stream.fileno(), select.POLLIN)
        pieces = frames(stream, tty=False)
        while True:
            while not waiting.poll(_SILENCE_MS):
                yield b""
            try:
                yield next(pieces)[1]
            except StopIteration:
                return
    finally:
        stream._response.close()
        stream.close()
