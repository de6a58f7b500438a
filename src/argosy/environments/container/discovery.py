"""Finds the container engine of this machine: the first socket that answers."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from argosy.environments.container.engine import Engine
from argosy.errors import Error, InvalidOption

_OPTION = "--engine"


def candidates(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Where engines listen, in the order in which they are asked."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    paths = [
        "/var/run/docker.sock",
        *([f"{runtime}/podman/podman.sock"] if runtime else []),
        "/run/podman/podman.sock",
    ]
    named = [environ["DOCKER_HOST"]] if environ.get("DOCKER_HOST") else []
    return [*named, *(f"unix://{path}" for path in paths)]


def find(given: str = "", environ: Mapping[str, str] = os.environ) -> str:
    """The socket of the engine that is `given`, else of the first one that answers. Raises InvalidOption."""
    if given:
        _knock(_checked(given))
        return given
    tried = []
    for url in candidates(environ):
        if not url.startswith("unix://"):
            tried.append(f"{url} (DOCKER_HOST: not on this machine)")
            continue
        if not Path(url.removeprefix("unix://")).exists():
            tried.append(f"{url} (not there)")
            continue
        try:
            _knock(url)
        except Error as problem:
            tried.append(f"{url} ({problem.message.partition('(')[2].partition(')')[0] or 'no answer'})")
            continue
        return url
    raise InvalidOption(
        _OPTION,
        given,
        f"no Docker or Podman answers on this machine; asked: {'; '.join(tried)}. Install one, start it "
        "(`systemctl start docker`, `systemctl --user start podman.socket`), or name its socket: "
        f"{_OPTION} unix:///path/to.sock",
    )


def _knock(url: str) -> None:
    with contextlib.closing(Engine(url)) as engine:
        engine.ping()


def _checked(url: str) -> str:
    if not url.startswith("unix:///"):
        raise InvalidOption(_OPTION, url, "containers run on this machine, so it must be unix:///path/to.sock")
    return url
