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

_TOKEN = re.compile(r"/t/([^/]+)(?=/|$)")
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)
_USERS_FILE = Path("~/.rattler/credentials.json")


@dataclass(frozen=True)
class Channels:
    """`urls` are without credentials. `logins` are entries of rattler's file by host."""

    urls: tuple[str, ...] = ()
    logins: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, setting: str) -> "Channels":
        """From the setting: names and URLs, parted by blanks."""
        urls, logins = [], {}
        for text in setting.split():
            url, login = _parted(text)
            urls.append(url)
            if login:
                logins[urlsplit(url).hostname or ""] = login
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
        return _TOKEN.sub("/t/***", _CREDENTIALS.sub(r"\1***@", text))


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
