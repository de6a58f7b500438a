"""A service's settings: checked, told apart into hot and cold, and turned into what replicas read."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from argosy.errors import InvalidOption
from argosy.manifests.variables import check_references, check_variables
from argosy.records import ServiceSettings, decode

# Changing one of these makes a new revision; the others reach running replicas at once.
COLD = frozenset({"max_concurrent_requests", "cpu", "memory_bytes", "init_timeout_s", "environment", "secrets"})

_AUTOSCALE = ("min_replicas", "max_replicas", "target_utilization", "refresh_period_s", "scale_down_delay_s")

# name -> lowest, highest
_RANGES: dict[str, tuple[float, float]] = {
    "max_concurrent_requests": (1, 1_000),
    "max_queued_requests": (0, 100_000),
    "max_queue_wait_ms": (1, 3_600_000),
    "request_timeout_ms": (1, 86_400_000),
    "max_body_bytes": (1, 10_000_000_000),
    "init_timeout_s": (1, 86_400),
    "cpu": (0.01, 1_024),
    "memory_bytes": (16 << 20, 1 << 44),
    "min_replicas": (0, 1_000),
    "max_replicas": (1, 1_000),
    "target_utilization": (1, 100),
    "refresh_period_s": (1, 3_600),
    "scale_down_delay_s": (1, 3_600),
}
_FRACTIONS = frozenset({"cpu", "init_timeout_s", "refresh_period_s", "scale_down_delay_s"})
_CHOICES: dict[str, tuple[object, ...]] = {
    "overload_status": (429, 503),
    "log_level": ("debug", "info", "warning", "error"),
    "public_docs": (True, False),
    "autoscale_enabled": (True, False),
}


def changed(settings: ServiceSettings, changes: Mapping[str, Any]) -> ServiceSettings:
    """`settings` with `changes` applied. InvalidOption names the one that cannot be."""
    known = {f.name for f in dataclasses.fields(ServiceSettings)}
    for name, value in changes.items():
        if name not in known:
            raise InvalidOption(name, value, f"there is no such setting; known: {', '.join(sorted(known))}")
        _check(name, value)
    after = dataclasses.replace(settings, **changes)
    if after.min_replicas > after.max_replicas:
        least = f"it must not be above max_replicas, which is {after.max_replicas}"
        raise InvalidOption("min_replicas", after.min_replicas, least)
    idle = next((name for name in _AUTOSCALE if name in changes), None)
    if idle is not None and not after.autoscale_enabled:
        off = "nothing would come of it, since autoscale is off. Add autoscale_enabled (`--autoscale-enabled true`)"
        raise InvalidOption(idle, changes[idle], off)
    return after


def is_cold(before: ServiceSettings, after: ServiceSettings) -> bool:
    """Whether going from one to the other needs new replicas."""
    return any(getattr(before, name) != getattr(after, name) for name in COLD)


def with_cold_of(settings: ServiceSettings, revision: ServiceSettings) -> ServiceSettings:
    """The hot settings of `settings` with the cold ones of a revision."""
    return dataclasses.replace(settings, **{name: getattr(revision, name) for name in COLD})


def read(stored: Any) -> ServiceSettings:
    return decode(ServiceSettings, stored)


def live_settings(settings: ServiceSettings, hashes: Iterable[str], generation: int, scheme: str) -> dict[str, Any]:
    """`settings.json` of a service (docs/architecture.md)."""
    return {
        "generation": generation,
        "keys": sorted(set(hashes)),
        "auth": True,
        "public_docs": settings.public_docs,
        "max_queued_requests": settings.max_queued_requests,
        "max_queue_wait_ms": settings.max_queue_wait_ms,
        "request_timeout_ms": settings.request_timeout_ms,
        "max_body_bytes": settings.max_body_bytes,
        "overload_status": settings.overload_status,
        "log_level": settings.log_level,
        "scheme": scheme,
    }


def _check(name: str, value: Any) -> None:
    if name in _CHOICES:
        if value not in _CHOICES[name] or type(value) is not type(_CHOICES[name][0]):
            raise InvalidOption(name, value, f"choose one of {', '.join(str(c) for c in _CHOICES[name])}")
    elif name in _RANGES:
        if value is None and name in ("cpu", "memory_bytes"):
            return
        low, high = _RANGES[name]
        whole = name not in _FRACTIONS
        fits = isinstance(value, int | float) and not isinstance(value, bool) and (not whole or isinstance(value, int))
        if not fits or not low <= value <= high:
            raise InvalidOption(name, value, f"it must be a {'whole ' if whole else ''}number from {low} to {high}")
    elif not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise InvalidOption(name, value, "it must map names to texts")
    elif name == "secrets":
        check_references(value)
    else:
        check_variables(name, value)
