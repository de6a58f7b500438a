"""Settings: one table of names, defaults, units and help, read once at start into a frozen object.

Each setting is a key of `$ARGOSY_HOME/config.toml`, and an environment variable `ARGOSY_<KEY>` that wins over it.
Unknown keys are refused with their name. Where things lie in the home is `Home`.
"""

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from argosy.errors import InvalidOption, StorageFailed

# A unix socket's path ends at 107 bytes on Linux and 103 on macOS; ours is `<run>/r/<12>/admin` and temporary names.
_LONGEST_RUN_DIR = 70
# What can stand in HAProxy's file without quoting.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/@+~=,-]+")


def _setting(default: Any, help: str, least: int | None = None) -> Any:  # noqa: A002
    return field(default=default, metadata={"help": help, "least": least})


@dataclass(frozen=True)
class Settings:
    """The table: name, type, default, help. An empty string is "not set"."""

    host: str = _setting(
        "127.0.0.1", "address that the control plane and the gateway bind; elsewhere than loopback needs TLS"
    )
    port: int = _setting(7700, "port of the control plane; 0 picks a free one")
    gateway_port: int = _setting(7780, "port of the gateway; 0 picks a free one")
    haproxy: str = _setting("", "path of the HAProxy binary; empty: the system's, else the one of the Python package")
    index_url: str = _setting("", "package index for dependencies; empty: uv's own configuration")
    extra_index_url: str = _setting("", "further package index")
    conda_channels: str = _setting(
        "conda-forge",
        "channels for conda files that name none, parted by blanks; user:password@ or /t/TOKEN/ in a URL here is used "
        "for every channel of that host",
    )
    model_limit_bytes: int = _setting(100_000_000_000, "largest model that can be registered, in bytes", least=1)
    url_limit_bytes: int = _setting(10_000_000_000, "largest model fetched from a URL, in bytes", least=1)
    allow_private_urls: bool = _setting(False, "let `model register URL` fetch from private and loopback addresses")
    operation_workers: int = _setting(4, "long operations (locks, environments, deploys) that run at once", least=1)
    log_limit_bytes: int = _setting(
        10_000_000, "size at which a log file is rotated, in bytes; one older file is kept", least=1
    )
    base_image: str = _setting(
        "python:{python}-slim-bookworm",
        "base of OCI images that are built without --base; {python} is the Python X.Y of the manifest",
    )
    image_limit_bytes: int = _setting(
        100_000_000_000, "largest image that is pulled, loaded or a base, packed and unpacked, in bytes", least=1
    )
    registry: str = _setting(
        "", "where `image push` pushes to without a destination, such as registry.example.com/team"
    )
    registry_ca_file: str = _setting(
        "", "PEM file of certificate authorities to trust for container registries, beside the system's"
    )
    tls_cert: str = _setting("", "PEM certificate chain of the control plane and the gateway; with tls_key")
    tls_key: str = _setting("", "PEM private key that belongs to tls_cert")
    tls_auto: bool = _setting(False, "make an own certificate authority and use it")

    @property
    def tls(self) -> bool:
        return self.tls_auto or bool(self.tls_cert)


@dataclass(frozen=True)
class Home:
    """Where everything lies, below `$ARGOSY_HOME`."""

    path: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str] = os.environ) -> "Home":
        return cls(Path(environ.get("ARGOSY_HOME") or "~/.argosy").expanduser().absolute())

    @property
    def database(self) -> Path:
        return self.path / "argosy.db"

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def envs(self) -> Path:
        """Isolated Python environments, one folder per lock and Python."""
        return self.path / "envs"

    @property
    def images(self) -> Path:
        """Images unpacked for the process runtime, one folder per plan digest."""
        return self.path / "images"

    @property
    def oci(self) -> Path:
        """One OCI image layout with all images that were built as OCI."""
        return self.path / "oci"

    @property
    def services(self) -> Path:
        """Per service: the live settings that its replicas poll, and the replicas' scratch folders."""
        return self.path / "services"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def gateway(self) -> Path:
        """HAProxy's generated file and maps."""
        return self.path / "gateway"

    @property
    def tls(self) -> Path:
        return self.path / "tls"

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def token(self) -> Path:
        return self.path / "token"

    @property
    def master_key(self) -> Path:
        return self.path / "master.key"

    @property
    def registries(self) -> Path:
        """Logins at container registries, sealed."""
        return self.path / "registries.json"

    @property
    def lock(self) -> Path:
        """Held with flock by the one control plane of this home."""
        return self.path / "lock"

    @property
    def address(self) -> Path:
        """JSON of the running (or last) control plane: url, gateway_url, ca_file, pid. Keeps ports over a restart."""
        return self.path / "address.json"

    @property
    def hold(self) -> Path:
        """Socket where the gateway brings requests for services that sleep."""
        return self.run / "hold"

    @property
    def run(self) -> Path:
        """Sockets and run folders: `<home>/run`, or a short private folder elsewhere when that path is long or odd."""
        inside = self.path / "run"
        if len(os.fsencode(inside)) <= _LONGEST_RUN_DIR and _PLAIN_PATH.fullmatch(str(inside)):
            return inside
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"argosy-{os.getuid()}-{digest}"

    def prepare(self) -> None:
        """Make the folders, private to the user. Raises StorageFailed when the home cannot be written."""
        try:
            for folder in (self.path, self.run, *(self.path / n for n in _FOLDERS)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.run.stat()
            if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
                raise StorageFailed(f"{self.run} belongs to somebody else or is open to others. Remove it.")
            probe = self.path / ".writable"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as problem:
            raise StorageFailed(
                f"The home {self.path} cannot be used: {problem.strerror or problem}. "
                "Make it writable, free some space, or set ARGOSY_HOME to another folder."
            ) from problem


_FOLDERS = ("blobs", "envs", "images", "services", "spool", "logs", "gateway", "tls")


def load_settings(
    home: Home, environ: Mapping[str, str] = os.environ, remembered: Mapping[str, Any] | None = None, **overrides: Any
) -> Settings:
    """Defaults, then what is `remembered`, `config.toml`, `ARGOSY_*` variables, and `overrides` that are not None."""
    values: dict[str, Any] = dict(remembered or {})
    known = {f.name: type(f.default) for f in fields(Settings)}
    if home.config.exists():
        try:
            table = tomllib.loads(home.config.read_bytes().decode())
        except OSError as problem:
            raise StorageFailed(f"{home.config} cannot be read: {problem.strerror or problem}.") from problem
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
            raise InvalidOption(str(home.config), "this file", f"it is not valid TOML: {problem}") from problem
        for key, value in table.items():
            if key not in known:
                raise InvalidOption(f"{home.config}: {key}", value, f"there is no such setting; known: {sorted(known)}")
            if type(value) is not known[key]:
                raise InvalidOption(f"{home.config}: {key}", value, f"it must be a {known[key].__name__}")
            values[key] = value
    for key, kind in known.items():
        if text := environ.get(f"ARGOSY_{key.upper()}"):
            values[key] = _parse(f"ARGOSY_{key.upper()}", text, kind)
    values.update({key: value for key, value in overrides.items() if value is not None})
    for setting in fields(Settings):
        least = setting.metadata["least"]
        if least is not None and values.get(setting.name, least) < least:
            raise InvalidOption(setting.name, values[setting.name], f"it must be {least} or more")
    return Settings(**values)


def _parse(variable: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise InvalidOption(variable, text, "write true or false")
        return text.lower() in ("true", "1")
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise InvalidOption(variable, text, "it must be a whole number") from None
    return text
