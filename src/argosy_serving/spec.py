"""The replica's orders: `spec.json` of its run folder and `image.json` of its image, checked and frozen."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


class InvalidSpec(Exception):
    """The spec or the image cannot be used; the message says which file, which key and what is wrong."""


@dataclass(frozen=True)
class Address:
    """A unix socket's path, or a host and a port."""

    unix: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix:{self.unix}" if self.unix else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Spec:
    """`spec.json`. Times are in seconds; `lock`, `failure`, `settings`, `log` and `admin` may be absent (None).

    `direct` is a second address for callers who come past the gateway, where there is one at `listen`.
    `shared`: sockets and log are for another user of the machine too; what keeps others away are the folders above.
    """

    id: str
    service: str
    revision: int
    image: Path
    listen: Address
    scratch: Path
    sha256: str
    direct: "Address | None" = None
    admin: "Address | None" = None
    lock: "Path | None" = None
    failure: "Path | None" = None
    settings: "Path | None" = None
    log: "Path | None" = None
    log_limit_bytes: int = 10_000_000
    slots: int = 1
    max_batch_size: "int | None" = None  # None: as the image says
    max_batch_delay_ms: "float | None" = None
    init_timeout_s: float = 600.0
    drain_grace_s: float = 0.0
    behind_gateway: bool = False
    shared: bool = False


@dataclass(frozen=True)
class ImageModel:
    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class Image:
    """`image.json`, as far as a replica needs it."""

    folder: Path
    digest: str
    name: str
    models: "tuple[ImageModel, ...]"
    script: str
    schema: "Mapping[str, Any] | None"
    samples: "tuple[Mapping[str, Any], ...] | None"  # None: somebody else asks them
    raw_strings: bool
    max_batch_size: int = 1  # rows in one call of `run`
    max_batch_delay_ms: float = 0.0

    @property
    def code(self) -> Path:
        return self.folder / "code"

    @property
    def model_root(self) -> Path:
        return self.folder / "models"


def load_spec(path: Path) -> Spec:
    """Raises InvalidSpec."""
    raw, data = _read(path)
    read = _Reader(path, data)
    optional = {
        key: Path(read.text(key)) for key in ("lock", "failure", "settings", "log") if data.get(key) is not None
    }
    service = read.text("service")
    if not _NAME.fullmatch(service):
        raise InvalidSpec(f"{path}: service {service!r} is no valid name.")
    return Spec(
        id=read.text("id"),
        service=service,
        revision=int(read.number("revision", 0)),
        image=Path(read.text("image")),
        listen=_address(path, "listen", data.get("listen")),
        scratch=Path(read.text("scratch")),
        sha256=hashlib.sha256(raw).hexdigest(),
        direct=None if data.get("direct") is None else _address(path, "direct", data["direct"]),
        admin=None if data.get("admin") is None else _address(path, "admin", data["admin"]),
        log_limit_bytes=int(read.number("log_limit_bytes", 10_000, 10_000_000)),
        slots=int(read.number("slots", 1, 1)),
        max_batch_size=None if data.get("max_batch_size") is None else int(read.number("max_batch_size", 1)),
        max_batch_delay_ms=None if data.get("max_batch_delay_ms") is None else read.number("max_batch_delay_ms", 0),
        init_timeout_s=read.number("init_timeout_s", 0, 600.0),
        drain_grace_s=read.number("drain_grace_s", 0, 0.0),
        behind_gateway=bool(data.get("behind_gateway", False)),
        shared=bool(data.get("shared", False)),
        **optional,
    )


def load_image(folder: Path) -> Image:
    """Raises InvalidSpec."""
    path = folder / "image.json"
    _, data = _read(path)
    read = _Reader(path, data)
    script = read.text("script")
    if Path(script).is_absolute() or ".." in Path(script).parts or not script.endswith(".py"):
        raise InvalidSpec(f"{path}: script {script!r} must be a .py file inside code/.")
    models = data["models"] if "models" in data else _models_in(folder / "models")
    serving = data.get("serving") or {}
    try:
        return Image(
            folder=folder,
            digest=str(data.get("digest") or os.environ.get("ARGOSY_IMAGE_DIGEST", "")),
            name=str(data.get("name", "")),
            models=tuple(ImageModel(str(model["name"]), int(model["version"])) for model in models or ()),
            script=script,
            schema=data.get("schema"),
            samples=None if data.get("samples", ()) is None else tuple(data.get("samples", ())),
            raw_strings=serving.get("string_answers", "json") == "raw",
            max_batch_size=int(serving.get("max_batch_size", 1)),
            max_batch_delay_ms=float(serving.get("max_batch_delay_ms", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InvalidSpec(f"{path}: models, samples or serving have the wrong shape ({problem!r}).") from None


def _models_in(root: Path) -> "list[dict[str, Any]]":
    """Those of a container, whose `image.json` names none so that a new model leaves it as it is."""
    found = sorted(root.glob("*/*")) if root.is_dir() else []
    return [{"name": path.parent.name, "version": path.name} for path in found]


def _read(path: Path) -> "tuple[bytes, Mapping[str, Any]]":
    try:
        raw = path.read_bytes()
        data = orjson.loads(raw)
    except OSError as problem:
        raise InvalidSpec(f"{path} cannot be read: {problem.strerror or problem}.") from None
    except orjson.JSONDecodeError as problem:
        raise InvalidSpec(f"{path} is not valid JSON: {problem}.") from None
    if not isinstance(data, dict):
        raise InvalidSpec(f"{path} must hold a JSON object.")
    return raw, data


class _Reader:
    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        self._path, self._data = path, data

    def text(self, key: str) -> str:
        value = self._data.get(key)
        if not isinstance(value, str) or not value:
            raise InvalidSpec(f"{self._path}: {key} must be a text, not {value!r}.")
        return value

    def number(self, key: str, least: float, default: "float | None" = None) -> float:
        value = self._data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
            raise InvalidSpec(f"{self._path}: {key} must be a number of at least {least}, not {value!r}.")
        return value


def _address(path: Path, key: str, value: Any) -> Address:
    if isinstance(value, Mapping):
        if isinstance(value.get("unix"), str) and value["unix"]:
            return Address(unix=value["unix"])
        port = value.get("port")
        if isinstance(value.get("host"), str) and isinstance(port, int) and 0 <= port < 65536:
            return Address(host=value["host"], port=port)
    raise InvalidSpec(f'{path}: {key} must be {{"unix": path}} or {{"host": name, "port": number}}, not {value!r}.')
