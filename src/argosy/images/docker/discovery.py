"""Finds the container engine of this machine: the one that DOCKER_HOST names, else the first socket that answers."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from argosy.errors import Error, InvalidOption
from argosy.images.docker.engine import Engine


def candidates(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Where engines listen, in the order in which they are asked. Whoever names one means no other."""
    if named := environ.get("DOCKER_HOST"):
        return [named]
    runtime = environ.get("XDG_RUNTIME_DIR")
    paths = [
        "/var/run/docker.sock",
        *([f"{runtime}/docker.sock", f"{runtime}/podman/podman.sock"] if runtime else []),
        "/run/podman/podman.sock",
    ]
    return [f"unix://{path}" for path in paths]


def knock(url: str) -> None:
    """Raises EngineFailed where no engine answers."""
    with contextlib.closing(Engine(url)) as engine:
        engine.ping()


def find_socket(option: str, given: str, advice: str, environ: Mapping[str, str] = os.environ) -> str:
    """The URL of the first engine that answers. Raises InvalidOption for `option`."""
    tried = []
    for url in candidates(environ):
        if not url.startswith("unix://"):
            tried.append(f"{url} (DOCKER_HOST: not on this machine)")
        elif not Path(url.removeprefix("unix://")).exists():
            tried.append(f"{url} (not there)")
        else:
            try:
                knock(url)
            except Error as problem:
                tried.append(f"{url} ({problem.message.partition('(')[2].partition(')')[0] or 'no answer'})")
            else:
                return url
    raise InvalidOption(
        option,
        given,
        f"no Docker or Podman answers on the control plane's machine; asked: {'; '.join(tried)}. Install and start one "
        f"(`systemctl start docker`, `systemctl --user start podman.socket`), {advice}",
    )
