"""What RUN steps need for the way out: proxies, certificate authorities, package indexes and their passwords.

They come as variables of a step's own process and as files of a folder that is mounted while it runs. Neither is part
of what is committed.
"""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from argosy.errors import InvalidFile
from argosy.images.docker.build_engine import HANDED
from argosy.manifests.uv import Index, redact

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "FTP_PROXY")
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_TRUSTING = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)
_INDEX = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
_EXTRA = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")
_PASSWORD = re.compile(r"(?:^|\s)(?:password|account)\s+(\"(?:\\.|[^\"\\])*\"|\S+)")
_SHORTEST_SECRET = 4


@dataclass(frozen=True)
class Handed:
    """`files` lie in a folder at HANDED; `secrets` must stand in no log."""

    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()

    def write(self, folder: Path) -> None:
        folder.mkdir(mode=0o755, parents=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
            # Open to users in the container, such as apt's; the folder above is private.
            (folder / name).chmod(0o644)

    def hide(self, line: str) -> str:
        # The longest first: one may be a part of another.
        for secret in sorted(self.secrets, key=len, reverse=True):
            line = line.replace(secret, "***")
        return redact(line)


def handed(index: Index, environ: Mapping[str, str] = os.environ) -> Handed:
    """What the control plane itself uses. Raises InvalidFile for a bundle or netrc file that cannot be read."""
    variables = {
        spelling: environ[name]
        for proxy in _PROXIES
        for name in (proxy, proxy.lower())
        if environ.get(name)
        for spelling in (proxy, proxy.lower())
    }
    variables |= _indexes(index, environ)
    files: dict[str, bytes] = {}
    if bundle := _bundle(environ):
        files["ca.pem"] = _read(bundle)
        files["apt.conf"] = f'Acquire::https::CAInfo "{HANDED}/ca.pem";\n'.encode()
        variables |= dict.fromkeys(_TRUSTING, f"{HANDED}/ca.pem") | {"APT_CONFIG": f"{HANDED}/apt.conf"}
    netrc = environ.get("NETRC")
    if netrc:
        files["netrc"] = _read(netrc)
        variables["NETRC"] = f"{HANDED}/netrc"
    return Handed(variables, files, _long_enough(_in_urls(variables) | _in_netrc(files.get("netrc", b""))))


def _indexes(index: Index, environ: Mapping[str, str]) -> dict[str, str]:
    url = index.url or next((environ[name] for name in _INDEX if environ.get(name)), "")
    extra = [*index.extra_urls]
    for name in _EXTRA:
        # uv's may be NAME=URL.
        extra += [re.sub(r"^[\w-]+=", "", word) for word in environ.get(name, "").split()]
    found = {"PIP_INDEX_URL": url, "UV_DEFAULT_INDEX": url} if url else {}
    if extra:
        joined = " ".join(dict.fromkeys(extra))
        found |= {"PIP_EXTRA_INDEX_URL": joined, "UV_INDEX": joined}
    return found


def _bundle(environ: Mapping[str, str]) -> str:
    named = next((environ[name] for name in _BUNDLES if environ.get(name)), "")
    return named or ssl.get_default_verify_paths().cafile or ""


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as problem:
        raise InvalidFile(path, f"cannot be read for the build steps: {problem.strerror}") from problem


def _in_urls(variables: Mapping[str, str]) -> set[str]:
    found = set()
    for value in variables.values():
        for word in value.split():
            try:
                password = urlsplit(word).password if "@" in word else None
            except ValueError:
                continue
            found |= {password, unquote(password)} if password else set()
    return found


def _in_netrc(content: bytes) -> set[str]:
    """As they are written there, and what programs read of quoted ones."""
    found = set()
    for word in _PASSWORD.findall(content.decode("utf-8", "surrogateescape")):
        plain = word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word
        found |= {word, plain, re.sub(r"\\(.)", r"\1", plain)}
    return found


def _long_enough(secrets: set[str]) -> frozenset[str]:
    return frozenset(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)
