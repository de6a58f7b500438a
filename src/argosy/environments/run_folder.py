"""One replica's run folder (docs/architecture.md): what it says of the replica, and what is known of it meanwhile.

A replica is somebody else's code: whatever it answers or leaves behind is read with care, and never ends a pass.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argosy.environments.admin import ask
from argosy.environments.foreign import open_foreign, read_foreign
from argosy.environments.processes import Identity
from argosy.environments.target import Load, Observed

_LOAD_TIMEOUT_S = 0.5


@dataclass
class RunFolder:
    """What this control plane knows of one run folder and its replica."""

    id: str
    service: str
    revision: int
    folder: Path
    created_at: float  # of the monotonic clock: the machine's may be set while a replica starts
    started_at: str
    address: str
    init_timeout_s: float
    process: subprocess.Popen[bytes] | None = None
    identity: Identity | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    asked_s: float | None = None
    seen_alive: bool = False
    overdue: bool = False
    drain_deadline_s: float | None = None
    gone: Observed | None = None

    @property
    def admin(self) -> str:
        return str(self.folder / "admin")

    @property
    def was_ready(self) -> Path:
        """Marks that it was ready once."""
        return self.folder / "ready"

    @property
    def locked(self) -> bool:
        """Whether a living process holds the lock."""
        try:
            with open_foreign(self.folder / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def seems_alive(self) -> bool:
        """Cheap, and wrong only for a process whose number lives on as a zombie or a stranger."""
        if self.process is not None:
            return self.process.poll() is None
        if self.identity is not None and self.identity.boot:
            return os.access(f"/proc/{self.identity.pid}", os.F_OK)
        return self.locked

    def take(self, answer: Mapping[str, Any]) -> None:
        """What its admin socket says. That it was ready once is kept on disk: a busy replica does not answer, and a new
        control plane must not take it for one that starts."""
        if answer.get("state") == "ready" and self.answer.get("state") != "ready":
            with contextlib.suppress(OSError):
                self.was_ready.touch()
        self.answer = dict(answer)
        pid = answer.get("pid")
        if self.identity is None and answer.get("id") == self.id and isinstance(pid, int) and pid > 1:
            self.identity = Identity.of(pid)

    def observed(self) -> Observed:
        answer = self.answer
        state = {"ready": "ready", "draining": "draining"}.get(str(answer.get("state")), "starting")
        return Observed(
            id=self.id,
            service=self.service,
            revision=self.revision,
            state="draining" if self.drain_deadline_s is not None else state,
            address=self.address,
            pid=self.identity.pid if self.identity else None,
            started_at=self.started_at,
            in_flight=_count(answer, "in_flight") + _count(answer, "queued"),
            generation=_count(answer, "generation"),
            capacity=_count(answer, "capacity"),
            reason=str(answer.get("reason") or ""),
        )

    def failure(self, code: int | None) -> tuple[str | None, bool]:
        """Why it ended, None when it should, and whether it found so itself."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            told = json.loads(read_foreign(self.folder / "failure.json"))
            return str(told["reason"]), True
        if self.overdue:
            limit = f"{self.init_timeout_s:g} s"
            return f"The replica was not ready {limit} after its start and did not end by itself.", True
        # Without a code it ended while no control plane watched, in a reboot most likely.
        if self.drain_deadline_s is not None or not code:
            return None, False
        if code < 0:
            hint = " Was the machine out of memory?" if -code == signal.SIGKILL else ""
            return f"The replica was ended by {_signal_name(-code)}.{hint}", False
        return f"The replica ended by itself with exit code {code}.", False


def load(folder: Path) -> RunFolder | None:
    """None for a folder without a whole specification."""
    try:
        spec = json.loads((folder / "spec.json").read_text())
        found = RunFolder(
            id=str(spec["id"]),
            service=str(spec["service"]),
            revision=int(spec["revision"]),
            folder=folder,
            created_at=time.monotonic() - max(0.0, time.time() - (folder / "spec.json").stat().st_mtime),
            started_at=str(spec["started_at"]),
            address=f"unix@{spec['listen']['unix']}",
            init_timeout_s=float(spec["init_timeout_s"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        found.identity = Identity(**json.loads((folder / "process.json").read_text()))
    if found.was_ready.exists():
        found.answer = {"state": "ready"}
    return found


def ask_load(replica: str, admin: str) -> Load:
    """One that does not answer is busy: no reason to wait long."""
    answer = ask(admin, "GET", "/status", timeout_s=_LOAD_TIMEOUT_S)
    return Load(replica, silent=True) if answer is None else load_of(replica, answer)


def load_of(replica: str, answer: Mapping[str, Any]) -> Load:
    run_s = answer.get("run_s")
    return Load(
        replica,
        busy=_count(answer, "in_flight"),
        queued=_count(answer, "queued"),
        refused=_count(answer, "shed"),
        capacity=_count(answer, "capacity"),
        run_s=float(run_s) if isinstance(run_s, int | float) and 0 <= run_s < 86_400 else 0.0,
    )


def _count(answer: Mapping[str, Any], name: str) -> int:
    value = answer.get(name, 0)
    return value if isinstance(value, int) and value >= 0 else 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
