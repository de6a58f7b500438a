"""The one way this project runs `uv`: an environment built on purpose, output handed on line by line.

The user's own configuration (uv.toml, UV_* variables, proxies, certificates, netrc) is honoured. Variables that would
change *what* is done, such as UV_PYTHON or UV_NO_VERIFY_HASHES, are not handed on, and the working directory is always
a folder of ours, so that no project of somebody else's is found there.
"""

import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from argosy.errors import EnvironmentFailed

OnLine = Callable[[str], None]

_PASSED = """
PATH HOME USER LOGNAME TMPDIR LANG LC_ALL SYSTEMROOT NETRC LD_LIBRARY_PATH XDG_CACHE_HOME XDG_CONFIG_HOME
XDG_CONFIG_DIRS XDG_DATA_HOME SSL_CERT_FILE SSL_CERT_DIR SSL_CLIENT_CERT REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
"""
# Names with the prefix UV_ are passed, except these: each would make uv do something other than it is told here.
_WITHHELD = """
UV_PROJECT UV_NO_PROJECT UV_WORKING_DIR UV_WORKING_DIRECTORY UV_PYTHON UV_SYSTEM_PYTHON UV_BREAK_SYSTEM_PACKAGES
UV_TARGET UV_PREFIX UV_NO_CONFIG UV_NO_VERIFY_HASHES UV_REQUIRE_HASHES UV_COMPILE_BYTECODE UV_VENV_SEED
UV_VENV_CLEAR UV_VENV_RELOCATABLE UV_NO_BINARY UV_NO_BINARY_PACKAGE UV_NO_BUILD UV_NO_BUILD_PACKAGE UV_CONSTRAINT
UV_OVERRIDE UV_EXCLUDE UV_BUILD_CONSTRAINT UV_RESOLUTION UV_FORK_STRATEGY UV_PROJECT_ENVIRONMENT UV_PYTHON_DOWNLOADS
UV_NO_PROGRESS UV_ENV_FILE UV_DRY_RUN UV_ISOLATED UV_MANAGED_PYTHON UV_NO_MANAGED_PYTHON UV_PYTHON_PREFERENCE
UV_PREVIEW UV_CUSTOM_COMPILE_COMMAND UV_LOG UV_QUIET UV_VERBOSE
"""
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)
# uv says so about builds, which never happen here.
_NOISE = re.compile(r"warning: The requested Python version \S+ is not available; ")
_KEPT_LINES = 2000


@dataclass(frozen=True)
class Finished:
    """How a run of uv ended. `log` is its standard error, without credentials and progress bars."""

    code: int
    stdout: str
    log: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.log)


@dataclass(frozen=True)
class Index:
    """Where packages come from. Empty means uv's own configuration; `extra_urls` are asked before `url`."""

    url: str = ""
    extra_urls: tuple[str, ...] = ()

    def variables(self) -> dict[str, str]:
        """As environment variables: an index URL may hold a password, and arguments are seen by every user."""
        named: dict[str, str] = {}
        if self.url:
            named["UV_DEFAULT_INDEX"] = self.url
        if self.extra_urls:
            named["UV_INDEX"] = " ".join(self.extra_urls)
        return named


def environment(index: Index, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that uv gets: the user's configuration, and an index of ours over it."""
    passed, withheld = frozenset(_PASSED.split()), frozenset(_WITHHELD.split())
    kept = {
        name: value
        for name, value in environ.items()
        if name.upper() in passed or (name.startswith("UV_") and name not in withheld)
    }
    own = index.variables()
    if "UV_DEFAULT_INDEX" in own:
        kept.pop("UV_INDEX_URL", None)
    if "UV_INDEX" in own and kept.get("UV_INDEX"):
        own["UV_INDEX"] += " " + kept["UV_INDEX"]
    return {**kept, **own, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def redact(line: str) -> str:
    """The line without user names and passwords of URLs."""
    return _CREDENTIALS.sub(r"\1***@", line)


def run_uv(
    arguments: Sequence[str],
    folder: Path,
    *,
    index: Index | None = None,
    on_line: OnLine | None = None,
    keep_open: Sequence[int] = (),
) -> Finished:
    """Run uv in `folder` until it ends. `keep_open` are descriptors the child inherits (a lock that outlives us)."""
    command = [_binary(), *arguments]
    try:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(index or Index()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=tuple(keep_open),
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as problem:
        raise EnvironmentFailed(
            f"uv could not be started ({command[0]}): {problem.strerror or problem}. Reinstall argosy."
        ) from problem
    with child:
        try:
            return _follow(child, on_line)
        except BaseException:
            child.kill()
            raise


def _follow(child: subprocess.Popen[str], on_line: OnLine | None) -> Finished:
    output: list[str] = []
    assert child.stdout is not None and child.stderr is not None
    reader = threading.Thread(target=lambda pipe: output.append(pipe.read()), args=(child.stdout,), daemon=True)
    reader.start()
    log: list[str] = []
    for raw in child.stderr:
        line = redact(raw.rstrip())
        if _NOISE.match(line):
            continue
        if len(log) < _KEPT_LINES:
            log.append(line)
        if on_line and line:
            on_line(line)
    code = child.wait()
    reader.join()
    return Finished(code, "".join(output), log)


def _binary() -> str:
    try:
        return str(uv.find_uv_bin())
    except FileNotFoundError as problem:
        raise EnvironmentFailed("The uv program is missing from this installation. Reinstall argosy.") from problem
