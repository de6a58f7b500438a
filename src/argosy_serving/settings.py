"""Live settings: one JSON file, replaced by rename, that a running replica follows without a restart."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

logger = logging.getLogger("argosy")

_LEVELS = ("debug", "info", "warning", "error", "critical")


class InvalidSettings(Exception):
    """The settings file cannot be used; the message says which key and what it must be."""


@dataclass(frozen=True)
class LiveSettings:
    """`settings.json`. `keys` are SHA-256 digests (bytes) of the keys that are valid now."""

    generation: int = 0
    keys: "tuple[bytes, ...]" = ()
    auth: bool = True
    public_docs: bool = False
    max_queued_requests: int = 10
    max_queue_wait_ms: int = 500
    request_timeout_ms: int = 60_000
    max_body_bytes: int = 20_000_000
    overload_status: int = 429
    log_level: str = "info"
    scheme: str = "http"


def parse_settings(raw: bytes) -> LiveSettings:
    """Raises InvalidSettings. Unknown keys are passed over: a newer control plane may write for older replicas."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as problem:
        raise InvalidSettings(f"not valid JSON: {problem}") from None
    if not isinstance(data, dict):
        raise InvalidSettings("a JSON object is needed")
    known: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        if name in data:
            known[name] = _checked(name, data[name], default)
    return LiveSettings(**known)


_DEFAULTS: dict[str, Any] = {
    "generation": 0, "keys": (), "auth": True, "public_docs": False, "max_queued_requests": 10,
    "max_queue_wait_ms": 500, "request_timeout_ms": 60_000, "max_body_bytes": 20_000_000, "overload_status": 429,
    "log_level": "info", "scheme": "http",
}  # fmt: skip
_CHOICES: dict[str, tuple[Any, ...]] = {
    "overload_status": (429, 503), "log_level": _LEVELS, "scheme": ("http", "https"),
}  # fmt: skip


def _checked(name: str, value: Any, default: Any) -> Any:
    if name == "keys":
        try:
            keys = tuple(bytes.fromhex(key) for key in value)
        except (TypeError, ValueError):
            keys = (b"",)
        if any(len(key) != 32 for key in keys):
            raise InvalidSettings("keys must be an array of SHA-256 digests in hex")
        return keys
    if name in _CHOICES and value not in _CHOICES[name]:
        raise InvalidSettings(f"{name} must be one of {_CHOICES[name]}, not {value!r}")
    if type(value) is not type(default):
        raise InvalidSettings(f"{name} must be a {type(default).__name__}, not {value!r}")
    if isinstance(value, int) and not isinstance(value, bool):
        least = 1 if name in ("request_timeout_ms", "max_body_bytes") else 0
        if value < least:
            raise InvalidSettings(f"{name} must be at least {least}, not {value!r}")
    return value


class SettingsFile:
    """Follows one file. `current` is the last good one; a bad file is logged once and passed over.

    `poll` and `reload` are called from threads other than the loop, never both at work at once.
    """

    def __init__(self, path: "Path | None") -> None:
        self._path = path
        self._seen: "tuple[int, int, int] | None" = None
        self._lock = threading.Lock()
        self.current = LiveSettings() if path is None else self._read(path)

    def poll(self) -> bool:
        """Read the file if it was replaced or touched; True when `current` is another one now."""
        if self._path is None:
            return False
        with self._lock:
            try:
                if self._stamp(self._path) == self._seen:
                    return False
            except OSError as problem:
                if self._seen is not None:
                    logger.warning("Settings %s cannot be read: %s. The last ones stay.", self._path, problem)
                self._seen = None
                return False
            return self._follow(self._path)

    def reload(self) -> bool:
        """Read the file now, whatever its time stamp says."""
        if self._path is None:
            return False
        with self._lock:
            return self._follow(self._path)

    def _follow(self, path: Path) -> bool:
        before = self.current
        try:
            self.current = self._read(path)
        except InvalidSettings as problem:
            logger.error("Settings %s are refused: %s. The last good ones stay.", path, problem)
        return self.current != before

    def _read(self, path: Path) -> LiveSettings:
        try:
            # Stamped before reading: a file replaced in between is read again at the next poll.
            self._seen = self._stamp(path)
            return parse_settings(path.read_bytes())
        except OSError as problem:
            raise InvalidSettings(f"cannot be read: {problem.strerror or problem}") from None

    @staticmethod
    def _stamp(path: Path) -> "tuple[int, int, int]":
        status = path.stat()
        return status.st_mtime_ns, status.st_ino, status.st_size
