"""What an environment needs of its machine, looked at now."""

import contextlib
import shutil

from argosy.errors import Error
from argosy.images.docker.engine import About, Engine
from argosy.images.oci.platforms import own_platform
from argosy.records import Check, Environment

_LOW_DISK_BYTES = 2_000_000_000


def check(environment: Environment) -> list[Check]:
    """Never raises: what does not work is a finding."""
    if environment.kind == "process":
        return [Check("processes", "ok", "replicas are processes of this machine; there is nothing else to need")]
    try:
        with contextlib.closing(Engine(environment.engine)) as engine:
            about = engine.about()
    except Error as problem:
        return [Check("engine", "fail", problem.message)]
    return [
        Check("engine", "ok", f"{about} at {environment.engine}, API {about.api}"),
        _platform(about),
        *_limits(about),
        *_store(about),
    ]


def _platform(about: About) -> Check:
    platform = f"linux/{about.architecture}"
    if platform == own_platform():
        return Check("platform", "ok", platform)
    return Check("platform", "fail", f"the engine runs {platform}, and images are built for {own_platform()} here")


def _limits(about: About) -> list[Check]:
    found = []
    for option, able in (("--cpu", about.cpu), ("--memory", about.memory)):
        message = "replicas can be limited" if able else "the engine cannot limit it: its cgroups lack that controller"
        found.append(Check(option, "ok" if able else "warn", message))
    return found


def _store(about: About) -> list[Check]:
    try:
        free = shutil.disk_usage(about.store).free
    except OSError:
        return []
    message = f"{free / 1e9:.1f} GB free for images at {about.store}"
    if free < _LOW_DISK_BYTES:
        return [Check("image store", "warn", f"{message}. Make room, or images cannot be loaded.")]
    return [Check("image store", "ok", message)]
