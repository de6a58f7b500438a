"""Who we are at which registry: kept in the home, sealed, in a file that only its owner can read."""

import base64
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argosy.errors import NotFound, StorageFailed
from argosy.keys import Vault, write_private
from argosy.records import RegistryLogin, utc_now


@dataclass(frozen=True)
class Login:
    """`identity_token`, from a Docker credential helper, stands in for name and password. All empty: nobody."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def known(self) -> bool:
        return bool(self.username or self.identity_token)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Logins:
    """What `argosy image login` stored. The password is sealed for its registry: moved to another it does not open."""

    def __init__(self, path: Path, vault: Vault) -> None:
        self._path = path
        self._vault = vault
        self._lock = threading.Lock()

    def all(self) -> list[RegistryLogin]:
        return [_record(host, entry) for host, entry in sorted(self._read().items())]

    def add(self, host: str, login: Login, plain_http: bool) -> RegistryLogin:
        """Replaces an older one."""
        sealed = self._vault.seal(login.password, _purpose(host))
        entry = {
            "username": login.username,
            "sealed": base64.b64encode(sealed).decode(),
            "plain_http": plain_http,
            "created_at": utc_now(),
        }
        with self._lock:
            self._write({**self._read(), host: entry})
        return _record(host, entry)

    def remove(self, host: str) -> None:
        with self._lock:
            entries = self._read()
            if entries.pop(host, None) is None:
                known = ", ".join(sorted(entries))
                hint = f"Logged in to: {known}." if known else "Nobody is logged in to any registry."
                raise NotFound("registry", host, hint)
            self._write(entries)

    def find(self, host: str) -> tuple[Login, bool] | None:
        """The login and whether the registry speaks plain HTTP; None when there is none."""
        entry = self._read().get(host)
        if entry is None:
            return None
        try:
            password = self._vault.open_sealed(base64.b64decode(entry["sealed"]), _purpose(host))
        except (StorageFailed, ValueError):
            raise StorageFailed(
                f"The login at {host} cannot be opened: it was sealed under another master key, or {self._path} was "
                f"changed. Log in again: `argosy image login {host} -u {entry['username'] or 'USER'}`."
            ) from None
        return Login(entry["username"], password), entry["plain_http"]

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            entries = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as problem:
            raise StorageFailed(f"{self._path} cannot be read: {problem.strerror or problem}.") from problem
        except ValueError:
            entries = None
        if not isinstance(entries, dict) or not all(_whole(entry) for entry in entries.values()):
            raise StorageFailed(f"{self._path} is damaged. Delete it, then log in to your registries again.")
        return entries

    def _write(self, entries: dict[str, dict[str, Any]]) -> None:
        try:
            write_private(self._path, json.dumps(entries, indent=1, sort_keys=True).encode() + b"\n")
        except OSError as problem:
            raise StorageFailed(f"{self._path} cannot be written: {problem.strerror or problem}.") from problem


def _purpose(host: str) -> str:
    return f"the login at {host}"


def _record(host: str, entry: dict[str, Any]) -> RegistryLogin:
    return RegistryLogin(host, entry["username"], entry["plain_http"], entry["created_at"])


def _whole(entry: Any) -> bool:
    wanted = {"username": str, "sealed": str, "plain_http": bool, "created_at": str}
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in wanted.items())
