"""The engine of an environment: named by the option or by DOCKER_HOST, or else the first that answers."""

import os
from collections.abc import Mapping

from argosy.errors import InvalidOption
from argosy.images.docker.discovery import find_socket, knock

_OPTION = "--engine"


def find(given: str = "", environ: Mapping[str, str] = os.environ) -> str:
    """The socket of the engine that is `given`, else of the one that is found. Raises InvalidOption."""
    if given:
        knock(_checked(given))
        return given
    return find_socket(_OPTION, given, f"or name its socket: {_OPTION} unix:///path/to.sock", environ)


def _checked(url: str) -> str:
    if not url.startswith("unix:///"):
        raise InvalidOption(_OPTION, url, "containers run on this machine, so it must be unix:///path/to.sock")
    return url
