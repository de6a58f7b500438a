"""One replica in a container: the folders that it shares with the control plane, and what is known of it.

    <run>/c/<suffix>/container.json    the control plane's own notes: nothing in a container can reach them
    <run>/c/<suffix>/alive, ready      it has answered once, it was ready once
    <run>/c/<suffix>/forgotten         it has ended, and only its container is left to be removed
    <run>/c/<suffix>/m/                mounted at /run/argosy: spec.json, settings.json, lock, sock, admin
    <logs>/services/<service>/<id>/    mounted at /var/log/argosy, see logs.py

The mounted folders are open to everybody, since the container's user is nobody's here; their parents are not.
"""

import contextlib
import functools
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy.environments.container.engine import State
from argosy.environments.run_folder import RunFolder
from argosy.environments.share import thread_variables
from argosy.environments.target import Launch
from argosy.images.oci.build import PORT

log = logging.getLogger(__name__)

# Labels of containers.
HOME, ENVIRONMENT, SERVICE, REVISION, REPLICA = (
    f"io.argosy.{name}" for name in ("home", "environment", "service", "revision", "replica")
)
SHARED, LOGS = "/run/argosy", "/var/log/argosy"
IMAGE = Path("/opt/argosy/image")
# Of the image; without them it could not start.
_FIXED = ("PYTHONPATH", "ARGOSY_IMAGE", "ARGOSY_IMAGE_DIGEST")
_NOTES = "container.json"
_SIGNALLED = 128
_KILLED = _SIGNALLED + 9


@dataclass
class ContainerReplica(RunFolder):
    """`folder` is the mounted one. `looked_s` is when the engine was asked last, `ended_s` when the lock was first seen
    free."""

    engine: str = ""
    memory_bytes: int | None = None
    looked_s: float | None = None
    ended_s: float | None = None

    @property
    def own(self) -> Path:
        """The folder that the container does not see."""
        return self.folder.parent

    @property
    def was_ready(self) -> Path:
        return self.own / "ready"

    @property
    def container(self) -> str:
        return container_name(self.id)

    @property
    def forgotten(self) -> bool:
        return (self.own / "forgotten").exists()

    def take(self, answer: Mapping[str, Any]) -> None:
        # Its process numbers are those of its own world.
        super().take({**answer, "pid": None})
        if answer.get("id") == self.id and not self.seen_alive:
            self.seen_alive = True
            with contextlib.suppress(OSError):
                (self.own / "alive").touch()

    def why(self, state: State | None) -> tuple[str | None, bool]:
        """Why it ended, None when it should, and whether it found so itself. `state` None: its container is gone."""
        if state is None:
            # One that was never seen was perhaps never made: the control plane died over it.
            expected = self.drain_deadline_s is not None or not self.seen_alive
            return None if expected else "Its container was removed by somebody else.", False
        told_to_end = self.overdue or self.drain_deadline_s is not None
        # Not every engine notices: old cgroups tell Podman nothing. Only the kernel kills one that has a limit.
        guessed = state.exit_code == _KILLED and self.memory_bytes is not None and not told_to_end
        if state.out_of_memory or guessed:
            return self._out_of_memory(state.out_of_memory), False
        if state.problem and not self.seen_alive:
            return f"The container engine could not run it: {state.problem}", False
        code = state.exit_code
        return self.failure(_SIGNALLED - code if code > _SIGNALLED else code)

    def _out_of_memory(self, certain: bool) -> str:
        limit = "what the machine has" if self.memory_bytes is None else f"its limit of {shown(self.memory_bytes)}"
        doubt = "" if certain else "most likely: its engine says no more than that it was killed; "
        return (
            f"The replica ran out of memory ({doubt}it needed more than {limit}). Give it more with `argosy service "
            f"update {self.service} --memory SIZE`, or fewer slots and smaller batches."
        )


def container_name(replica: str) -> str:
    return f"argosy-{replica}"


def shown(size_bytes: int) -> str:
    """As users write it: 512M, 1.5G."""
    for unit, letter in ((1 << 30, "G"), (1 << 20, "M")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.4g}{letter}"
    return f"{size_bytes} bytes"


def orders(replica: str, launch: Launch, started_at: str, log_limit_bytes: int) -> dict[str, Any]:
    """`spec.json` as the replica reads it, with its own paths."""
    return {
        "id": replica,
        "service": launch.service,
        "revision": launch.revision,
        "image": str(IMAGE),
        "listen": {"unix": f"{SHARED}/sock"},
        "direct": {"host": "0.0.0.0", "port": PORT},  # noqa: S104 (published on the machine's loopback)
        "admin": {"unix": f"{SHARED}/admin"},
        "shared": True,
        "lock": f"{SHARED}/lock",
        "failure": f"{SHARED}/failure.json",
        "scratch": "/tmp/work",  # noqa: S108 (the container's own)
        "settings": f"{SHARED}/settings.json",
        "log": f"{LOGS}/{replica}.log",
        "log_limit_bytes": log_limit_bytes,
        "slots": launch.slots,
        "max_batch_size": launch.max_batch_size,
        "init_timeout_s": launch.init_timeout_s,
        "drain_grace_s": 0.0,
        "behind_gateway": True,
        "started_at": started_at,
    }


def notes(replica: str, launch: Launch, started_at: str) -> dict[str, Any]:
    assert launch.container is not None
    return {
        "id": replica,
        "service": launch.service,
        "revision": launch.revision,
        "started_at": started_at,
        "init_timeout_s": launch.init_timeout_s,
        "engine": launch.container.engine,
        "memory_bytes": launch.container.memory_bytes,
    }


def note(own: Path, content: Mapping[str, Any]) -> None:
    """Raises OSError."""
    (own / _NOTES).write_text(json.dumps(content))


def open_folder(folder: Path) -> None:
    """Make one that is mounted. Raises OSError.

    Sticky: what the control plane puts there a container can neither remove nor replace, and with the kernel's
    `protected_symlinks` nobody here follows a link of its making.
    """
    folder.mkdir()
    folder.chmod(0o1777)


def remove_folder(folder: Path) -> None:
    """One that a container could write to. What it closed to others stays, unless the control plane is root."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        _tell_what_stays(folder.parent)


@functools.cache
def _tell_what_stays(parent: Path) -> None:
    """Once for each parent."""
    log.warning(
        "replicas in containers have left folders below %s that only their own user or root can remove; the disk stays "
        "full of them until root does",
        parent,
    )


def place(path: Path, content: bytes) -> None:
    """Whole or not at all, readable to the container. Raises OSError."""
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as out:
            os.fchmod(descriptor, 0o644)
            out.write(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def variables(launch: Launch) -> dict[str, str]:
    """What the container gets beside the image's own, which the user cannot do without."""
    given = {name: value for name, value in launch.variables.items() if name not in _FIXED}
    return {
        "HOME": "/tmp",  # noqa: S108 (the container's own)
        "SERVICE_NAME": launch.service,
        **thread_variables(launch.cpu, launch.slots, launch.variables),
        **given,
    }


def load(own: Path) -> ContainerReplica | None:
    """None for a folder without whole notes: a crash came before anything was started from it."""
    try:
        content = json.loads((own / _NOTES).read_text())
        found = ContainerReplica(
            id=str(content["id"]),
            service=str(content["service"]),
            revision=int(content["revision"]),
            folder=own / "m",
            created_at=time.monotonic() - max(0.0, time.time() - (own / _NOTES).stat().st_mtime),
            started_at=str(content["started_at"]),
            address=f"unix@{own / 'm' / 'sock'}",
            init_timeout_s=float(content["init_timeout_s"]),
            engine=str(content["engine"]),
            memory_bytes=content["memory_bytes"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found.seen_alive = (own / "alive").exists()
    if found.seen_alive and found.was_ready.exists():
        found.answer = {"state": "ready"}
    return found
