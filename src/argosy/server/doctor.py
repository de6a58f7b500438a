"""Looks for what will hurt soon or hurts already; every finding says what to do."""

import shutil
from collections.abc import Callable

from argosy.environments.checks import check as check_environment_of
from argosy.errors import Error
from argosy.images.pythons import list_pythons
from argosy.images.venvs import check_environment
from argosy.records import Check
from argosy.server.control import Control

_LOW_DISK_BYTES = 2_000_000_000


def examine(control: Control) -> list[Check]:
    checks: list[Callable[[Control], list[Check]]] = [
        _disk,
        _database,
        _gateway,
        _pythons,
        _environments,
        _engines,
        _services,
    ]
    found: list[Check] = []
    for check in checks:
        try:
            found += check(control)
        except Error as problem:
            found.append(Check(check.__name__.strip("_"), "fail", problem.message))
    return found


def _disk(control: Control) -> list[Check]:
    free = shutil.disk_usage(control.home.path).free
    message = f"{free / 1e9:.1f} GB free at {control.home.path}"
    if free < _LOW_DISK_BYTES:
        return [Check("disk", "warn", f"{message}. Delete images and models that are not used, or make room.")]
    return [Check("disk", "ok", message)]


def _database(control: Control) -> list[Check]:
    problem = control.database.integrity_problem()
    if problem:
        return [Check("database", "fail", f"{problem}. Restore {control.home.database} from a backup.")]
    return [Check("database", "ok", f"{control.home.database}, schema {control.database.revision()}")]


def _gateway(control: Control) -> list[Check]:
    status = control.gateway.status()
    if status["state"] != "running":
        return [Check("gateway", "fail", f"HAProxy does not run. Look into {control.home.logs / 'gateway.log'}.")]
    return [Check("gateway", "ok", f"HAProxy {status['version']} at {status['url']}, pid {status['pid']}")]


def _pythons(control: Control) -> list[Check]:
    found = ", ".join(python.version for python in list_pythons())
    return [Check("pythons", "ok" if found else "fail", found or "no Python for images was found; install one")]


def _environments(control: Control) -> list[Check]:
    """Every image's environment; one that is missing is built again when a replica starts."""
    _, keys = control.images.keys_in_use()
    broken = {key: why for key in sorted(keys) if (why := check_environment(control.home.envs, key))}
    if not broken:
        return [Check("environments", "ok", f"{len(keys)} environments of images are whole")]
    return [
        Check("environments", "warn", f"{key[:12]}: {why}; it will be built again when it is needed")
        for key, why in broken.items()
    ]


def _engines(control: Control) -> list[Check]:
    """What is wrong with environments of containers, or that nothing is."""
    found = []
    for environment in control.environments.all():
        if environment.kind == "container":
            checks = check_environment_of(environment)
            wrong = [Check(f"{environment.name} {c.name}", c.state, c.message) for c in checks if c.state != "ok"]
            found += wrong or [Check(f"environment {environment.name}", "ok", checks[0].message)]
    return found


def _services(control: Control) -> list[Check]:
    found = []
    for name in control.services.names():
        condition = control.reconciler.condition(control.services.get(name))
        state = {"healthy": "ok", "stopped": "ok", "failed": "fail"}.get(condition.state, "warn")
        hint = "" if state == "ok" else f" `argosy service logs {name}` shows more."
        found.append(Check(f"service {name}", state, f"{condition.state}: {condition.reason}.{hint}"))
    return found
