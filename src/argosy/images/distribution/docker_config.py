"""Logins that Docker and Podman users have already: `~/.docker/config.json` and its credential helpers."""

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from argosy.errors import InvalidFile, RegistryRefused
from argosy.images.distribution.logins import Login
from argosy.images.distribution.names import DOCKER_HUB

_HUB_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_S = 30.0
# A helper that has nothing says so in words, with exit code 1.
_NOTHING = "credentials not found"


def find_login(host: str, environ: Mapping[str, str] = os.environ) -> Login | None:
    """In Docker's order: the helper of the registry, the helper of all, then what stands in the file."""
    folder = environ.get("DOCKER_CONFIG") or str(Path(environ.get("HOME") or Path.home()) / ".docker")
    path = Path(folder) / "config.json"
    config = _read(path)
    helpers, auths = _table(config, "credHelpers"), _table(config, "auths")
    keys = _keys(host)
    helper = next((helpers[key] for key in keys if key in helpers), config.get("credsStore"))
    if helper:
        return _ask_helper(str(helper), host, keys[0], environ)
    entry = next((auths[key] for key in keys if isinstance(auths.get(key), dict)), None)
    return _from_entry(path, host, entry) if entry else None


def _keys(host: str) -> list[str]:
    """Names under which Docker may have filed the registry; the first is the one it writes itself."""
    forms = [host, f"https://{host}", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/", f"{host}/"]
    return [_HUB_KEY, *forms, "index.docker.io"] if host == DOCKER_HUB else forms


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as problem:
        raise InvalidFile(path, f"cannot be read: {problem.strerror or problem}") from problem
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise InvalidFile(path, "is no JSON object. Repair it, or set DOCKER_CONFIG to another folder.")
    return config


def _table(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _from_entry(path: Path, host: str, entry: Mapping[str, Any]) -> Login | None:
    if token := entry.get("identitytoken"):
        return Login(identity_token=str(token))
    if not entry.get("auth"):
        name, password = str(entry.get("username", "")), str(entry.get("password", ""))
        return Login(name, password) if name else None
    try:
        name, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise InvalidFile(path, f"the auth of {host} is no base64 of USER:PASSWORD. Log in there again.")
    return Login(name, password.rstrip("\0"))


def _ask_helper(helper: str, host: str, key: str, environ: Mapping[str, str]) -> Login | None:
    """By the helpers' protocol: `get`, the registry on stdin, JSON on stdout."""
    program = f"docker-credential-{helper}"
    if not _HELPER.fullmatch(helper):
        raise RegistryRefused(
            host, f"The Docker config names a credential helper {helper!r}, which is no program name."
        )
    try:
        done = subprocess.run(
            [program, "get"], input=key, capture_output=True, text=True, timeout=_HELPER_S, env=dict(environ)
        )
    except FileNotFoundError:
        raise RegistryRefused(
            host,
            f"The Docker config keeps the login of {host} with {program}, which is not on the PATH. Install it, "
            f"or use `argosy image login {host} -u USER`.",
        ) from None
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise RegistryRefused(
            host, f"The credential helper {program} did not answer: {type(problem).__name__}."
        ) from None
    if done.returncode != 0:
        said = (done.stdout or done.stderr).strip()
        if _NOTHING in said:
            return None
        raise RegistryRefused(host, f"The credential helper {program} failed for {host}: {said[:200]}")
    try:
        found = json.loads(done.stdout)
        name, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, LookupError, TypeError):
        raise RegistryRefused(
            host, f"The credential helper {program} answered for {host} what is no login. Update it."
        ) from None
    return Login(identity_token=secret) if name == "<token>" else Login(name, secret)
