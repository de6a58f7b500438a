"""The one way this project runs rattler: a process of its own for each order, with an environment built on purpose."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from argosy.errors import EnvironmentFailed
from argosy.manifests.channels import Channels

_PASSED = """
PATH HOME USER LOGNAME TMPDIR LANG LC_ALL NETRC LD_LIBRARY_PATH XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME
SSL_CERT_FILE SSL_CERT_DIR SSL_CLIENT_CERT REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY RATTLER_AUTH_FILE RATTLER_CACHE_DIR
"""
_LONGEST_CAUSE_CHARS = 600


class Refused(Exception):
    """rattler's answer when it could not do what it was asked. `kind`: spec, channel, unsolvable or package."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(answer["text"])
        self.kind, self.text, self.more = str(answer["kind"]), str(answer["text"]), answer


def run_rattler(order: Mapping[str, Any], channels: Channels, *, keep_open: Sequence[int] = ()) -> dict[str, Any]:
    """The answer to an order of `rattler_child.py`. Raises Refused, its text without credentials.

    `keep_open` are descriptors the child inherits (a lock that outlives us).
    """
    with tempfile.TemporaryDirectory(prefix="argosy-conda-") as name:
        environ = _environment(channels, Path(name))
        child = subprocess.Popen(
            [sys.executable, "-m", "argosy.manifests.rattler_child"],
            cwd=name,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=tuple(keep_open),
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        with child:
            try:
                out, log = child.communicate(json.dumps(order))
            except BaseException:
                child.kill()
                raise
    try:
        answer: dict[str, Any] = json.loads(out)
    except ValueError:
        last = channels.redact(log.strip().splitlines()[-1] if log.strip() else "")
        raise EnvironmentFailed(
            f"The program that handles conda packages ended with code {child.returncode}: "
            f"{last[:_LONGEST_CAUSE_CHARS] or 'it said nothing; perhaps memory ran out'}. Try again.",
            {"log": channels.redact(log).splitlines()},
        ) from None
    if error := answer.get("error"):
        raise Refused({**error, "text": channels.redact(str(error["text"]))})
    return answer


def _environment(channels: Channels, folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The user's configuration, and where credentials lie."""
    passed = frozenset(_PASSED.split())
    kept = {name: value for name, value in environ.items() if name.upper() in passed}
    if login := channels.authentication(environ):
        file = folder / "credentials.json"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(login)
        kept["RATTLER_AUTH_FILE"] = str(file)
    return kept | {"NO_COLOR": "1", "PYTHONNOUSERSITE": "1"}
