"""The kind `process`: replicas as processes of this machine, each in a session of its own.

The run folder is the truth. A replica holds `flock` on its lock file as long as it lives, so an orphan of a control
plane that died between spawning and remembering is found by scanning the folders, and nothing is started twice.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import string
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from argosy.environments.admin import ask
from argosy.environments.processes import Identity, end_session
from argosy.environments.share import thread_variables
from argosy.environments.target import Launch, Observed
from argosy.errors import StorageFailed
from argosy.keys import write_private
from argosy.records import utc_now
from argosy.settings import Home

# A process that was spawned but has not taken its lock yet looks dead; it is given this long.
_START_GRACE_S = 20.0
# Beyond a replica's own limit for init(), for one that hangs before it can watch itself.
_STARTUP_MARGIN_S = 30.0
# How often a replica that is ready is asked again; changes of its state reach us by its exit.
_ASK_READY_EVERY_S = 5.0
_KEEP_LOGS = 20
_SUFFIX_ALPHABET = string.ascii_lowercase + string.digits

# What a replica inherits; everything else is the user's to give.
_INHERITED = (
    *("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"),
)


@dataclass
class _Replica:
    """What this control plane knows of one run folder."""

    id: str
    service: str
    revision: int
    folder: Path
    created_s: float
    started_at: str
    address: str
    init_timeout_s: float
    process: subprocess.Popen[bytes] | None = None
    identity: Identity | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    asked_s: float = 0.0
    drain_deadline_s: float | None = None
    gone: Observed | None = None


class ProcessTarget:
    """One object a control plane. Thread-safe; calls may block for seconds."""

    def __init__(self, home: Home, log_limit_bytes: int) -> None:
        self._home = home
        self._log_limit_bytes = log_limit_bytes
        self._folders = home.run / "r"
        self._folders.mkdir(mode=0o700, exist_ok=True)
        self._guard = threading.Lock()
        self._replicas: dict[str, _Replica] = {}
        self._adopt()

    def start(self, launch: Launch) -> str:
        suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(8))
        replica_id = f"{launch.service}-{launch.revision}-{suffix}"
        folder = self._folders / suffix
        log = self._log_folder(launch.service) / f"{replica_id}.log"
        try:
            folder.mkdir(mode=0o700)
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            spec = self._spec(replica_id, launch, folder, log)
            write_private(folder / "spec.json", json.dumps(spec, indent=1).encode())
            with log.open("ab") as output:
                # Its own session: neither a signal to the control plane's group nor its death reaches the replica.
                process = subprocess.Popen(
                    [str(launch.python), "-m", "argosy_serving", str(folder / "spec.json")],
                    cwd=folder,
                    env=_variables(launch),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            identity = Identity.of(process.pid)
            if identity is not None:
                write_private(folder / "process.json", json.dumps(asdict(identity)).encode())
        except OSError as problem:
            raise StorageFailed(
                f"Replica {replica_id} could not be started: {problem.strerror or problem} ({problem.filename})."
            ) from problem
        found = _load(folder)
        if found is None:
            raise StorageFailed(f"The run folder {folder} vanished while a replica was started in it.")
        with self._guard:
            self._replicas[replica_id] = replace(found, process=process, identity=identity)
        return replica_id

    def observe(self, service: str) -> list[Observed]:
        with self._guard:
            mine = [r for r in self._replicas.values() if r.service == service]
        return [self._look(replica) for replica in mine]

    def services(self) -> set[str]:
        with self._guard:
            return {r.service for r in self._replicas.values()}

    def apply_settings(self, service: str, settings: Mapping[str, Any]) -> None:
        path = self._settings_file(service)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, json.dumps(settings).encode())
        except OSError as problem:
            raise StorageFailed(f"{path} cannot be written: {problem.strerror or problem}.") from problem
        with self._guard:
            running = [r for r in self._replicas.values() if r.service == service and r.gone is None]
        for replica in running:
            answer = ask(str(replica.folder / "admin"), "POST", "/reload")
            if answer is not None:
                replica.answer = {**replica.answer, "generation": answer.get("generation", 0)}

    def drain(self, replica_id: str, timeout_s: float) -> None:
        replica = self._find(replica_id)
        if replica is None or replica.drain_deadline_s is not None:
            return
        replica.drain_deadline_s = time.monotonic() + timeout_s
        identity = self._identity(replica)
        if identity is not None:
            identity.terminate()

    def kill(self, replica_id: str) -> None:
        replica = self._find(replica_id)
        identity = self._identity(replica) if replica else None
        if identity is not None:
            identity.kill()

    def forget(self, replica_id: str) -> None:
        with self._guard:
            replica = self._replicas.pop(replica_id, None)
        if replica is None:
            return
        if replica.identity is not None:
            end_session(replica.identity.pid)
        shutil.rmtree(replica.folder, ignore_errors=True)
        shutil.rmtree(self._scratch(replica.service, replica_id), ignore_errors=True)
        self._prune_logs(replica.service)

    def remove_service(self, service: str) -> None:
        shutil.rmtree(self._home.services / service, ignore_errors=True)
        shutil.rmtree(self._log_folder(service), ignore_errors=True)

    def log_files(self, service: str) -> list[Path]:
        def age(path: Path) -> float:
            with contextlib.suppress(OSError):
                return path.stat().st_mtime
            return 0.0

        return sorted(self._log_folder(service).glob("*.log*"), key=age)

    # -- looking -------------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        for folder in sorted(self._folders.iterdir()):
            replica = _load(folder)
            if replica is None:
                # A crash before the specification was whole: nothing can have been started from it.
                shutil.rmtree(folder, ignore_errors=True)
            else:
                self._replicas[replica.id] = replica

    def _look(self, replica: _Replica) -> Observed:
        if replica.gone is not None:
            return replica.gone
        ended = self._ended(replica)
        if ended is not None:
            replica.gone = ended
            return ended
        now = time.monotonic()
        state = replica.answer.get("state", "loading")
        if state != "ready" or replica.drain_deadline_s is not None or now - replica.asked_s > _ASK_READY_EVERY_S:
            replica.asked_s = now
            # A replica that does not answer may be busy in native code that holds the interpreter: no reason to kill.
            replica.answer = ask(str(replica.folder / "admin"), "GET", "/status") or replica.answer
        observed = _observed(replica)
        overdue = observed.state == "starting" and (
            time.time() - replica.created_s > replica.init_timeout_s + _STARTUP_MARGIN_S
        )
        if overdue or (replica.drain_deadline_s is not None and now > replica.drain_deadline_s):
            self.kill(replica.id)
        return observed

    def _ended(self, replica: _Replica) -> Observed | None:
        code: int | None = None
        if replica.process is not None:
            code = replica.process.poll()
            if code is None:
                return None
        elif _locked(replica.folder / "lock"):
            return None
        elif replica.identity is not None:
            # The lock is let go a moment before the process is gone; only both together mean the end.
            if replica.identity.alive:
                return None
        elif time.time() - replica.created_s < _START_GRACE_S:
            return None
        failure, deterministic = _failure(replica, code)
        return replace(
            _observed(replica), state="gone", failure=failure, deterministic=deterministic, reason=failure or ""
        )

    def _find(self, replica_id: str) -> _Replica | None:
        with self._guard:
            return self._replicas.get(replica_id)

    def _identity(self, replica: _Replica) -> Identity | None:
        if replica.identity is None:
            answer = ask(str(replica.folder / "admin"), "GET", "/status")
            if answer is not None and answer.get("id") == replica.id:
                replica.identity = Identity.of(int(answer["pid"]))
        return replica.identity

    # -- files ---------------------------------------------------------------------------------------------------

    def _spec(self, replica_id: str, launch: Launch, folder: Path, log: Path) -> dict[str, Any]:
        return {
            "id": replica_id,
            "service": launch.service,
            "revision": launch.revision,
            "image": str(launch.image_folder),
            "listen": {"unix": str(folder / "sock")},
            "admin": {"unix": str(folder / "admin")},
            "lock": str(folder / "lock"),
            "failure": str(folder / "failure.json"),
            "scratch": str(self._scratch(launch.service, replica_id)),
            "settings": str(self._settings_file(launch.service)),
            "log": str(log),
            "log_limit_bytes": self._log_limit_bytes,
            "slots": launch.slots,
            "init_timeout_s": launch.init_timeout_s,
            # The gateway has already taken the replica out when it is told to end.
            "drain_grace_s": 0.0,
            "behind_gateway": True,
            "started_at": utc_now(),
        }

    def _scratch(self, service: str, replica_id: str) -> Path:
        return self._home.services / service / "scratch" / replica_id

    def _settings_file(self, service: str) -> Path:
        return self._home.services / service / "settings.json"

    def _log_folder(self, service: str) -> Path:
        return self._home.logs / "services" / service

    def _prune_logs(self, service: str) -> None:
        with self._guard:
            living = {r.id for r in self._replicas.values() if r.service == service}
        ended = [path for path in self.log_files(service) if path.name.split(".log")[0] not in living]
        for path in ended[:-_KEEP_LOGS]:
            path.unlink(missing_ok=True)


def _variables(launch: Launch) -> dict[str, str]:
    """The whole environment of a replica, built from scratch; the user's own values win."""
    own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    models = launch.image_folder / "models"
    one = models / launch.models[0][0] / str(launch.models[0][1]) if len(launch.models) == 1 else models
    own |= {
        "PATH": f"{launch.python.parent}:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": str(launch.python.parent.parent),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ARGOSY_MODEL_DIR": str(models),
        "AZUREML_MODEL_DIR": str(one),
        "SERVICE_NAME": launch.service,
        **thread_variables(launch.cpu, launch.slots, launch.variables),
    }
    return own | dict(launch.variables) | {"PYTHONPATH": str(launch.runtime_folder)}


def _load(folder: Path) -> _Replica | None:
    try:
        spec = json.loads((folder / "spec.json").read_text())
        created_s = (folder / "spec.json").stat().st_mtime
    except (OSError, ValueError):
        return None
    identity = None
    with contextlib.suppress(OSError, ValueError, TypeError):
        identity = Identity(**json.loads((folder / "process.json").read_text()))
    return _Replica(
        id=spec["id"],
        service=spec["service"],
        revision=spec["revision"],
        folder=folder,
        created_s=created_s,
        started_at=spec["started_at"],
        address=f"unix@{spec['listen']['unix']}",
        init_timeout_s=spec["init_timeout_s"],
        identity=identity,
    )


def _observed(replica: _Replica) -> Observed:
    answer = replica.answer
    state = {"ready": "ready", "draining": "draining"}.get(answer.get("state", ""), "starting")
    return Observed(
        id=replica.id,
        service=replica.service,
        revision=replica.revision,
        state="draining" if replica.drain_deadline_s is not None else state,
        address=replica.address,
        pid=replica.identity.pid if replica.identity else None,
        started_at=replica.started_at,
        in_flight=int(answer.get("in_flight", 0)) + int(answer.get("queued", 0)),
        generation=int(answer.get("generation", 0)),
        reason=str(answer.get("reason") or ""),
    )


def _failure(replica: _Replica, code: int | None) -> tuple[str | None, bool]:
    """Why it ended, None when it should, and whether it found so itself."""
    with contextlib.suppress(OSError, ValueError):
        told = json.loads((replica.folder / "failure.json").read_text())
        return str(told["reason"]), True
    # Without a code it ended while no control plane watched, in a reboot most likely.
    if replica.drain_deadline_s is not None or not code:
        return None, False
    if code < 0:
        name = signal.Signals(-code).name
        hint = " Was the machine out of memory?" if name == "SIGKILL" else ""
        return f"The replica was ended by {name}.{hint}", False
    return f"The replica ended by itself with exit code {code}.", False


def _locked(path: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
