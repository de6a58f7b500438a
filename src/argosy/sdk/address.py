"""Where the control plane of this user answers, and the token it wants."""

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from argosy.errors import InvalidOption, NotRunning, StorageFailed
from argosy.settings import Home


@dataclass(frozen=True)
class Address:
    """`ca_file` is the certificate authority to trust besides none other; None trusts the system's."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None


def locate(
    url: str | None = None,
    token: str | None = None,
    home: str | os.PathLike[str] | None = None,
    ca_file: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Address:
    """Arguments, then ARGOSY_URL, ARGOSY_TOKEN and ARGOSY_CA_FILE, then what the control plane wrote into its home.

    The home's token goes to the home's own control plane and to loopback only, never to another machine. Raises
    NotRunning when no URL is known.
    """
    at = Home(Path(home).expanduser().absolute()) if home is not None else Home.locate(environ)
    written = read_address(at)
    own = str(written["url"]) if written.get("url") else None
    explicit = url or environ.get("ARGOSY_URL")
    found = check_url((explicit or own or "").rstrip("/")) if explicit or own else None
    if found is None:
        raise NotRunning(str(at.path))
    ca = ca_file or environ.get("ARGOSY_CA_FILE") or written.get("ca_file")
    secret = token or environ.get("ARGOSY_TOKEN")
    if not secret and (found == own or is_loopback(found)):
        secret = read_token(at)
    return Address(found, secret or None, str(ca) if ca else None)


def read_address(home: Home) -> dict[str, Any]:
    """What the running (or last) control plane of this home wrote; empty when there was none."""
    try:
        written = json.loads(home.address.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as problem:
        raise StorageFailed(
            f"{home.address} cannot be read: {problem}. Remove it, then start again with `argosy up`."
        ) from problem
    return written if isinstance(written, dict) else {}


def read_token(home: Home) -> str | None:
    try:
        return home.token.read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise StorageFailed(
            f"{home.token} holds no token. Restore it from a backup, or delete it while argosy is stopped to have a "
            "new one made."
        ) from None
    except OSError as problem:
        raise StorageFailed(
            f"The token {home.token} cannot be read: {problem.strerror}. Run as its owner, or set ARGOSY_TOKEN."
        ) from problem


def check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidOption("the control plane's URL", url, "write http://HOST:PORT or https://HOST:PORT")
    return url


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
