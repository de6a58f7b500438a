"""The kind `process`: replicas as processes of this machine, each in a session of its own.

The run folder is the truth. A replica holds `flock` on its lock file as long as it lives, so an orphan of a control
plane that died between spawning and remembering is found by scanning the folders, and nothing is started twice.
"""

import json
import os
import secrets
import shutil
import string
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from argosy.environments.admin import ask
from argosy.environments.processes import Identity, end_session
from argosy.environments.replicas import Replicas
from argosy.environments.run_folder import RunFolder, ask_load, load
from argosy.environments.service_files import ServiceFiles, age
from argosy.environments.share import thread_variables
from argosy.environments.target import Launch, Load, Observed
from argosy.errors import StorageFailed
from argosy.keys import write_private
from argosy.records import utc_now
from argosy.settings import Home

# A process that was spawned but has not taken its lock yet looks dead; it is given this long.
_START_GRACE_S = 20.0
# Beyond a replica's own limit for init(), for one that hangs before it can watch itself.
_STARTUP_MARGIN_S = 30.0
# For a drain whose limit is not known. The replica keeps to its own, which is shorter; this is for one that hangs.
_UNKNOWN_DRAIN_S = 600.0
# How often a replica that is ready is asked again; changes of its state reach us by its exit.
_ASK_READY_EVERY_S = 60.0
_KEEP_LOGS = 20
# By this a process that a replica started is known again.
_REPLICA_VARIABLE = "ARGOSY_REPLICA"
_SUFFIX_ALPHABET = string.ascii_lowercase + string.digits

# What a replica inherits; everything else is the user's to give.
_INHERITED = (
    *("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"),
)


class ProcessTarget:
    """One object a control plane. Thread-safe; calls may block for seconds."""

    def __init__(self, home: Home, log_limit_bytes: int) -> None:
        self._files = ServiceFiles(home)
        self._log_limit_bytes = log_limit_bytes
        self._folders = home.run / "r"
        self._folders.mkdir(mode=0o700, exist_ok=True)
        self._replicas: Replicas[RunFolder] = Replicas()
        self._adopt()

    def start(self, launch: Launch) -> str:
        suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(8))
        replica_id = f"{launch.service}-{launch.revision}-{suffix}"
        folder = self._folders / suffix
        log = self._files.logs(launch.service) / f"{replica_id}.log"
        process: subprocess.Popen[bytes] | None = None
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
                    env=replica_variables(launch, replica_id),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            identity = Identity.of(process.pid)
            if identity is not None:
                write_private(folder / "process.json", json.dumps(asdict(identity)).encode())
            found = load(folder)
            if found is None:
                raise FileNotFoundError(None, "its run folder vanished", str(folder))
        except (OSError, ValueError) as problem:
            # ValueError: an argument or variable that no process can be given.
            if process is not None:
                process.kill()
                process.wait()
            shutil.rmtree(folder, ignore_errors=True)
            where = getattr(problem, "filename", None) or folder
            reason = getattr(problem, "strerror", None) or problem
            raise StorageFailed(f"Replica {replica_id} could not be started: {reason} ({where}).") from problem
        self._replicas.add(replace(found, process=process, identity=identity, seen_alive=True))
        return replica_id

    def observe(self, service: str) -> list[Observed]:
        return [self._look(replica) for replica in self._replicas.of(service)]

    def load(self, service: str) -> list[Load]:
        return [
            ask_load(replica.id, replica.admin)
            for replica in self._replicas.of(service)
            if replica.observed().state == "ready"
        ]

    def services(self) -> set[str]:
        return self._replicas.services()

    def ended(self) -> set[str]:
        watched = self._replicas.by_service().items()
        return {name for name, mine in watched if any(r.gone is None and not r.seems_alive for r in mine)}

    def trouble(self, service: str) -> str:
        return ""

    def apply_settings(self, service: str, settings: Mapping[str, Any]) -> None:
        self._files.write_settings(service, settings)
        for replica in self._replicas.of(service):
            answer = ask(replica.admin, "POST", "/reload") if replica.gone is None else None
            if answer is not None:
                replica.answer = {**replica.answer, "generation": answer.get("generation", 0)}

    def drain(self, replica_id: str, timeout_s: float) -> None:
        replica = self._replicas.find(replica_id)
        if replica is None or replica.drain_deadline_s is not None:
            return
        replica.drain_deadline_s = time.monotonic() + timeout_s
        identity = self._identity(replica)
        if identity is not None:
            identity.terminate()

    def kill(self, replica_id: str) -> None:
        replica = self._replicas.find(replica_id)
        identity = self._identity(replica) if replica else None
        if identity is not None:
            identity.kill()

    def forget(self, replica_id: str) -> None:
        replica = self._replicas.find(replica_id)
        if replica is None:
            return
        self._replicas.remove(replica)
        if replica.identity is not None:
            end_session(replica.identity, None if replica.seen_alive else f"{_REPLICA_VARIABLE}={replica_id}")
        shutil.rmtree(replica.folder, ignore_errors=True)
        shutil.rmtree(self._files.scratch(replica.service, replica_id), ignore_errors=True)
        self._prune_logs(replica.service)

    def remove_service(self, service: str) -> None:
        self._files.remove(service)

    def log_files(self, service: str) -> list[Path]:
        return sorted((path for path in self._files.logs(service).glob("*.log*") if path.is_file()), key=age)

    # -- looking -------------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        for folder in sorted(self._folders.iterdir()):
            replica = load(folder)
            if replica is None:
                # A crash before the specification was whole: nothing can have been started from it.
                shutil.rmtree(folder, ignore_errors=True)
            else:
                self._replicas.add(replica)

    def _look(self, replica: RunFolder) -> Observed:
        if replica.gone is not None:
            return replica.gone
        ended = self._ended(replica)
        if ended is not None:
            replica.gone = ended
            return ended
        now = time.monotonic()
        state = replica.answer.get("state", "loading")
        known = state == "ready" and replica.asked_s is not None and now - replica.asked_s < _ASK_READY_EVERY_S
        if not known or replica.drain_deadline_s is not None:
            replica.asked_s = now
            # A replica that does not answer may be busy in native code that holds the interpreter: no reason to kill.
            replica.take(ask(replica.admin, "GET", "/status") or replica.answer)
        observed = replica.observed()
        if observed.state == "draining" and replica.drain_deadline_s is None:
            # Told by an earlier control plane, or by a signal of somebody else's: it ends, or is ended, all the same.
            replica.drain_deadline_s = now + _UNKNOWN_DRAIN_S
        if observed.state == "starting":
            replica.overdue = now - replica.created_at > replica.init_timeout_s + _STARTUP_MARGIN_S
        if replica.overdue or (replica.drain_deadline_s is not None and now > replica.drain_deadline_s):
            self.kill(replica.id)
        return observed

    def _ended(self, replica: RunFolder) -> Observed | None:
        code: int | None = None
        if replica.process is not None:
            code = replica.process.poll()
            if code is None:
                return None
        elif replica.identity.alive if replica.identity is not None else replica.locked:
            # The lock alone may still be held by a process that user code has forked.
            replica.seen_alive = True
            return None
        elif replica.identity is None and time.monotonic() - replica.created_at < _START_GRACE_S:
            return None
        failure, deterministic = replica.failure(code)
        return replace(
            replica.observed(), state="gone", failure=failure, deterministic=deterministic, reason=failure or ""
        )

    def _identity(self, replica: RunFolder) -> Identity | None:
        if replica.identity is None:
            replica.take(ask(replica.admin, "GET", "/status") or replica.answer)
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
            "scratch": str(self._files.scratch(launch.service, replica_id)),
            "settings": str(self._files.settings(launch.service)),
            "log": str(log),
            "log_limit_bytes": self._log_limit_bytes,
            "slots": launch.slots,
            "max_batch_size": launch.max_batch_size,
            "init_timeout_s": launch.init_timeout_s,
            # The gateway has already taken the replica out when it is told to end.
            "drain_grace_s": 0.0,
            "behind_gateway": True,
            "started_at": utc_now(),
        }

    def _prune_logs(self, service: str) -> None:
        living = {r.id for r in self._replicas.of(service)}
        ended = [p for p in self.log_files(service) if p.name.removesuffix(".1").removesuffix(".log") not in living]
        for path in ended[:-_KEEP_LOGS]:
            path.unlink(missing_ok=True)


def replica_variables(launch: Launch, replica_id: str) -> dict[str, str]:
    """The whole environment of a replica, built from scratch; the user's own values win."""
    own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    models = launch.image_folder / "models"
    one = models / launch.models[0][0] / str(launch.models[0][1]) if len(launch.models) == 1 else models
    prefix = launch.python.parent.parent
    own |= {
        "PATH": f"{launch.python.parent}:/usr/local/bin:/usr/bin:/bin",
        "CONDA_PREFIX" if (prefix / "conda-meta").is_dir() else "VIRTUAL_ENV": str(prefix),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ARGOSY_MODEL_DIR": str(models),
        "AZUREML_MODEL_DIR": str(one),
        "SERVICE_NAME": launch.service,
        **thread_variables(launch.cpu, launch.slots, launch.variables),
    }
    return own | dict(launch.variables) | {"PYTHONPATH": str(launch.runtime_folder), _REPLICA_VARIABLE: replica_id}
