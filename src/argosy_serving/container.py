"""A replica in a container: its orders come from environment variables, and become the files that every replica reads.

`ARGOSY_IMAGE` is the image folder; the image itself sets it. `ARGOSY_KEYS` holds the keys, or `sha256:<hex>` of them,
parted by commas or blanks. Limits are named as in the service's settings: `ARGOSY_MAX_QUEUED_REQUESTS=20`.
"""

import hashlib
import math
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import orjson

from argosy_serving.settings import InvalidSettings, parse_settings
from argosy_serving.spec import InvalidSpec, load_image

IMAGE = "ARGOSY_IMAGE"
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "ARROW_NUM_THREADS",
)  # fmt: skip
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")
_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
_OFF = ("off", "false", "0")


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "on", "off"):
        raise ValueError("write true or false")
    return text.lower() in ("true", "1", "on")


def _number(text: str) -> int:
    return int(text)


# Variable without its prefix -> (key of the file, how to read it).
_SPEC: "dict[str, tuple[str, Callable[[str], Any]]]" = {
    "MAX_CONCURRENT_REQUESTS": ("slots", _number),
    "MAX_BATCH_SIZE": ("max_batch_size", _number),
    "MAX_BATCH_DELAY_MS": ("max_batch_delay_ms", float),
    "INIT_TIMEOUT_S": ("init_timeout_s", float),
    "DRAIN_GRACE_S": ("drain_grace_s", float),
}
_SETTINGS: "dict[str, tuple[str, Callable[[str], Any]]]" = {
    "MAX_QUEUED_REQUESTS": ("max_queued_requests", _number),
    "MAX_QUEUE_WAIT_MS": ("max_queue_wait_ms", _number),
    "REQUEST_TIMEOUT_MS": ("request_timeout_ms", _number),
    "MAX_BODY_BYTES": ("max_body_bytes", _number),
    "OVERLOAD_STATUS": ("overload_status", _number),
    "PUBLIC_DOCS": ("public_docs", _truth),
    "LOG_LEVEL": ("log_level", str.lower),
    "SCHEME": ("scheme", str),
}


def write_orders(environ: "MutableMapping[str, str]") -> Path:
    """`spec.json` in a new temporary folder. Keys are taken out of `environ`: user code has no business with them.

    Raises InvalidSpec with the variable that is wrong.
    """
    image = load_image(Path(environ[IMAGE]))
    # A container is reached through the port that its starter publishes.
    host = environ.get("ARGOSY_HOST", "0.0.0.0")  # noqa: S104
    service = environ.get("ARGOSY_SERVICE") or (image.models[0].name if len(image.models) == 1 else "model")
    slots_text = environ.get("ARGOSY_MAX_CONCURRENT_REQUESTS", "1")
    settings = {"generation": 1, **_keys(environ), **_read(environ, _SETTINGS)}
    try:
        parse_settings(orjson.dumps(settings))
    except InvalidSettings as problem:
        raise InvalidSpec(f"The ARGOSY_ variables cannot be used: {problem}.") from None
    spec = {
        "id": f"{service}-{environ.get('HOSTNAME') or secrets.token_hex(3)}",
        "service": service,
        "revision": 0,
        "image": str(image.folder),
        "listen": {"host": host, "port": _port(environ.get("ARGOSY_PORT", "5001"))},
        **_read(environ, _SPEC),
    }
    _limit_threads(environ, slots_text)
    environ.setdefault("SERVICE_NAME", service)
    try:
        folder = Path(tempfile.mkdtemp(prefix="argosy-"))
        (folder / "settings.json").write_bytes(orjson.dumps(settings))
        spec.update(scratch=str(folder / "work"), settings=str(folder / "settings.json"))
        (folder / "spec.json").write_bytes(orjson.dumps(spec))
    except OSError as problem:
        raise InvalidSpec(
            f"No temporary folder can be written ({problem.strerror or problem}). Give the container one: "
            "docker run --tmpfs /tmp ..."
        ) from None
    return folder / "spec.json"


def _keys(environ: "MutableMapping[str, str]") -> "dict[str, Any]":
    keys = environ.pop("ARGOSY_KEYS", "").replace(",", " ").split()
    if keys:
        return {"keys": [_hash(key) for key in keys], "auth": True}
    if environ.get("ARGOSY_AUTH", "").lower() in _OFF:
        return {"keys": [], "auth": False}
    raise InvalidSpec(
        "There are no keys, so nobody could call this service. Set ARGOSY_KEYS to one or more keys (or "
        "sha256:<hex of a key's SHA-256>), or ARGOSY_AUTH=off to let everybody call it."
    )


def _hash(key: str) -> str:
    match = _HASHED.fullmatch(key)
    return match[1] if match else hashlib.sha256(key.encode()).hexdigest()


def _read(environ: "Mapping[str, str]", known: "Mapping[str, tuple[str, Callable[[str], Any]]]") -> "dict[str, Any]":
    found = {}
    for variable, (key, convert) in known.items():
        text = environ.get(f"ARGOSY_{variable}", "")
        if text:
            try:
                found[key] = convert(text)
            except ValueError as problem:
                raise InvalidSpec(f"ARGOSY_{variable} cannot be {text!r}: {problem}.") from None
    return found


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise InvalidSpec(f"ARGOSY_PORT cannot be {text!r}: write 1 to 65535.")
    return int(text)


def _limit_threads(environ: "MutableMapping[str, str]", slots: str) -> None:
    """Numeric libraries start a thread per core of the machine; the container's share, parted by slots, is enough."""
    threads = str(max(1, math.floor(_cores() / max(1, int(slots) if slots.isdigit() else 1))))
    for name in _THREADS:
        environ.setdefault(name, threads)


def _cores() -> float:
    cores = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    try:
        quota, period = _CPU_LIMIT.read_text().split()[:2]
        return min(cores, float(quota) / float(period))
    except (OSError, ValueError, ZeroDivisionError):  # no limit, or none that we know of
        return cores
