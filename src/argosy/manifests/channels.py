"""Conda channels of the settings, and the credentials for private ones, which go nowhere but into rattler's own file.

A URL of the `conda_channels` setting may hold `user:password@` or `/t/TOKEN/`. Both are cut out and handed to the
process that runs rattler, in a file of its own format (RATTLER_AUTH_FILE), beside what the user has there.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from argosy.errors import InvalidOption
from argosy.manifests.uv import redact

_TOKEN = re.compile(r"/t/([^/]+)(?=/|$)")
_USERS_FILE = Path("~/.rattler/credentials.json")


@dataclass(frozen=True)
class Channels:
    """`urls` are without credentials. `logins` are entries of rattler's file by host."""

    urls: tuple[str, ...] = ()
    logins: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, setting: str) -> "Channels":
        """From the setting: names and URLs, parted by blanks. InvalidOption for two logins at one host: rattler goes
        by host alone, whatever the port and the path, and one of the two channels would be refused."""
        urls: list[str] = []
        logins: dict[str, dict[str, Any]] = {}
        for text in setting.split():
            url, login = _parted(text)
            urls.append(url)
            host = urlsplit(url).hostname or ""
            if login and logins.setdefault(host, login) != login:
                raise InvalidOption(
                    "conda_channels",
                    " ".join(urls),
                    f"it has two logins for {host}, and a host can have one. Use one user or token that may read all "
                    "its channels.",
                )
        return cls(tuple(urls), logins)

    def authentication(self, environ: Mapping[str, str] = os.environ) -> str:
        """What rattler's file shall hold: the user's own, and these logins over it. Empty: rattler finds its own."""
        if not self.logins:
            return ""
        own = Path(environ.get("RATTLER_AUTH_FILE") or _USERS_FILE.expanduser())
        try:
            kept = json.loads(own.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        return json.dumps({**(kept if isinstance(kept, dict) else {}), **self.logins})

    def redact(self, text: str) -> str:
        """The text without user names, passwords and tokens of URLs."""
        return _TOKEN.sub("/t/***", redact(text))


def has_token(url: str) -> bool:
    """Whether a channel's URL holds `/t/TOKEN/`."""
    return bool(_TOKEN.search(url))


def _parted(text: str) -> tuple[str, dict[str, Any]]:
    """The channel without its credentials, and those."""
    parts = urlsplit(text)
    path, login = parts.path, {}
    if token := _TOKEN.search(path):
        path, login = path.replace(token[0], "", 1), {"CondaToken": token[1]}
    host = parts.netloc.rpartition("@")[2]
    if parts.username:
        password = unquote(parts.password or "")
        login = {"BasicHTTP": {"username": unquote(parts.username), "password": password}}
    return urlunsplit(parts._replace(netloc=host, path=path)).rstrip("/"), login
