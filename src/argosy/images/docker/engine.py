"""The Docker or Podman that builds: found by its socket, driven through its API.

A step runs as an `exec` in a container that only waits, so that what it is given for the way (proxies, credentials) is
in no container's configuration and in no image that is committed from it.
"""

import contextlib
import os
import select
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from argosy.errors import EngineFailed, Error
from argosy.images.docker.discovery import find_socket

_TIMEOUT_S = 600
# A step may be silent for hours; whoever waits wants to look up now and then.
_SILENCE_MS = 1000
_LABEL = "io.argosy.build"
_REPOSITORY = "localhost/argosy-build"
_WAIT = "while :; do sleep 1000; done"
# Both outputs through one pipe, so that lines come in the order in which they were written.
_IN_ORDER = ("/bin/sh", "-c", 'exec "$@" 2>&1', "step")
_FULL = ("no space left on device", "disk quota exceeded")
# In the engine's own /dev, which is in memory: no trace of the mount comes into a layer.
HANDED = "/dev/argosy"


def find_engine(environ: Mapping[str, str] = os.environ) -> "Engine":
    """The one that DOCKER_HOST names, else the first of Docker's and Podman's sockets that answers. InvalidOption."""
    advice = (
        "set DOCKER_HOST=unix:///path/to.sock before `argosy up`, or build without an engine and without steps: "
        "--builder oci"
    )
    return Engine(find_socket("--builder", "docker", lambda url: Engine(url).close(), advice, environ))


class Engine:
    """One engine. Methods raise EngineFailed."""

    def __init__(self, url: str) -> None:
        import docker

        self.url = url
        with self._asking("be asked"):
            self._api: Any = docker.APIClient(url, version="auto", timeout=_TIMEOUT_S)
            self.architecture = str(self._api.version().get("Arch", ""))

    def load(self, tag: str, content: Iterator[bytes]) -> None:
        """An archive whose image has the name of `tag`."""
        with self._asking("load the base"):
            for line in self._api.load_image(content):
                if isinstance(line, dict) and line.get("error"):
                    raise self._refusal("load the base", str(line["error"]))
            self._api.inspect_image(image_name(tag))

    @contextlib.contextmanager
    def container(self, tag: str, build: str, handed: Path) -> Iterator[str]:
        """A waiting container of the image; `handed` lies there at HANDED, to be read. It is gone afterwards."""
        with self._asking("start a container"):
            made = self._api.create_container(
                image_name(tag),
                command=["-c", _WAIT],
                entrypoint=["/bin/sh"],
                user="0",
                labels={_LABEL: build},
                host_config=self._api.create_host_config(
                    binds={str(handed): {"bind": HANDED, "mode": "ro,Z"}},
                    # A step reaches what the control plane reaches: proxies and indexes on this machine too.
                    network_mode="host",
                ),
            )
            container = str(made["Id"])
        try:
            with self._asking("start a container"):
                self._api.start(container)
            yield container
        finally:
            with contextlib.suppress(EngineFailed), self._asking("remove a container"):
                self._api.remove_container(container, v=True, force=True)

    def run(self, container: str, command: Sequence[str], variables: Mapping[str, str]) -> Generator[bytes, None, int]:
        """What it writes, as it comes, and nothing each second; the generator's value is the exit code."""
        with self._asking("run a step"):
            made = self._api.exec_create(
                container, [*_IN_ORDER, *command], environment=dict(variables), user="0", workdir="/", stdin=False
            )
            yield from self._written(made["Id"])
            code = self._api.exec_inspect(made["Id"])["ExitCode"]
            if code is None:
                raise self._refusal("run a step", "it was ended from outside")
            return int(code)

    def commit(self, container: str, tag: str, into: IO[bytes]) -> list[str]:
        """The diff ids of the container's layers; their archive as `docker save` writes it goes into a file."""
        with self._asking("save a step"):
            self._api.commit(container, repository=_REPOSITORY, tag=tag)
            for piece in self._api.get_image(image_name(tag)):
                into.write(piece)
            return [str(diff_id) for diff_id in self._api.inspect_image(image_name(tag))["RootFS"]["Layers"]]

    def clean(self, build: str) -> None:
        """Remove what a build has left behind: its containers, and its images."""
        with self._asking("clean up"):
            for found in self._api.containers(all=True, filters={"label": f"{_LABEL}={build}"}):
                self._api.remove_container(found["Id"], v=True, force=True)
            names = [name for image in self._api.images() for name in image.get("RepoTags") or []]
            # The newest first, since each is the parent of the next.
            for name in sorted((n for n in names if n.startswith(f"{_REPOSITORY}:{build}-")), reverse=True):
                self._api.remove_image(name, force=True)

    def close(self) -> None:
        self._api.close()

    def _written(self, exec_id: str) -> Iterator[bytes]:
        """What `exec_start` of the package streams too, with the connection closed afterwards."""
        from docker.utils import socket

        frames: Any = socket.frames_iter
        stream = self._api.exec_start(exec_id, socket=True)
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

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException

        try:
            yield
        except Error:
            raise
        except APIError as problem:
            raise self._refusal(what, str(problem.explanation or problem)) from problem
        except (DockerException, RequestException) as problem:
            raise EngineFailed(
                self.url,
                f"The container engine at {self.url} does not answer ({type(problem).__name__}). Start it again and "
                "repeat the build: finished steps are kept.",
            ) from problem

    def _refusal(self, what: str, problem: str) -> EngineFailed:
        text = f"The container engine at {self.url} could not {what}: {problem.strip().rstrip('.')}."
        if any(word in problem.lower() for word in _FULL):
            text += " Its image store is full: make room (`docker system df`, `docker image prune`), then repeat."
        return EngineFailed(self.url, text)


def image_name(tag: str) -> str:
    return f"{_REPOSITORY}:{tag}"
