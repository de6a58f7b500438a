"""Replicas as containers. Everything between a replica and the control plane goes through folders that both see.

Whether a replica lives is told by the lock in its folder, not by the engine: so it is known while the engine is dead,
and neither does a dead engine look like dead replicas nor is anything started twice. The engine is asked to start, to
end, and for the reason of an end.
"""

import contextlib
import json
import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from argosy.environments.admin import ask, is_socket
from argosy.environments.container.engine import ContainerEngine, Found, Order
from argosy.environments.container.engines import Engines
from argosy.environments.container.images import EngineImages
from argosy.environments.container.logs import ContainerLogs
from argosy.environments.container.replica import (
    ENVIRONMENT,
    HOME,
    LOGS,
    REPLICA,
    REVISION,
    SERVICE,
    SHARED,
    ContainerReplica,
    container_name,
    load,
    note,
    notes,
    open_folder,
    orders,
    place,
    remove_folder,
    variables,
)
from argosy.environments.container.trial import TRIAL
from argosy.environments.replicas import Replicas
from argosy.environments.run_folder import ask_load
from argosy.environments.service_files import ServiceFiles
from argosy.environments.target import Launch, Load, Observed
from argosy.errors import EngineFailed, EngineUnreachable, Error, StorageFailed
from argosy.images.oci.build import PORT, USER
from argosy.records import utc_now
from argosy.settings import Home

_SUFFIX_ALPHABET = string.ascii_lowercase + string.digits
_STARTUP_MARGIN_S = 30.0
_UNKNOWN_DRAIN_S = 600.0
_ASK_READY_EVERY_S = 60.0
_ASK_ENGINE_EVERY_S = 0.5
# A container whose process has ended is told so by its engine within this, or the engine is wrong.
_ENGINE_NOTICES_S = 30.0
_UNTOLD = "The replica has ended, and its container engine does not tell why."


class ContainerTarget:
    """One object a control plane, whatever the number of engines. Thread-safe; calls may block for seconds."""

    def __init__(self, home: Home, engines: Engines, images: EngineImages, log_limit_bytes: int) -> None:
        self._home, self._engines, self._images = home, engines, images
        self._files = ServiceFiles(home)
        self._logs = ContainerLogs(self._files)
        self._log_limit_bytes = log_limit_bytes
        self._folders = home.run / "c"
        self._folders.mkdir(mode=0o700, exist_ok=True)
        self._replicas: Replicas[ContainerReplica] = Replicas()
        # Of each service that has or had a replica here.
        self._engine_of: dict[str, str] = {}
        self._adopt()
        engines.watch(self._sweep)

    def start(self, launch: Launch) -> str:
        wanted = launch.container
        assert wanted is not None
        self._engine_of[launch.service] = wanted.engine
        engine = self._engines.get(wanted.engine)
        tag = self._images.ensure(engine, wanted.image)
        suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(8))
        replica_id = f"{launch.service}-{launch.revision}-{suffix}"
        own = self._folders / suffix
        try:
            self._prepare(own, replica_id, launch)
            found = load(own)
            if found is None:
                raise FileNotFoundError(None, "its run folder vanished", str(own))
            engine.run(self._order(found, launch, tag))
        except OSError as problem:
            self._remove_folders(own, launch.service, replica_id)
            where, reason = problem.filename or own, problem.strerror or problem
            raise StorageFailed(f"Replica {replica_id} could not be started: {reason} ({where}).") from problem
        except EngineUnreachable:
            # It may have been made, for all we know: the folder stays as forgotten, until the engine says.
            (own / "forgotten").touch()
            raise
        except Error:
            self._remove_folders(own, launch.service, replica_id)
            raise
        self._keep(found)
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
        watched, using = self._replicas.by_service().items(), dict(self._engine_of)
        flipped = self._engines.flipped()
        ended = {n for n, mine in watched if any(r.gone is None and r.seen_alive and not r.locked for r in mine)}
        return ended | {name for name, engine in using.items() if engine in flipped}

    def trouble(self, service: str) -> str:
        engine = self._engine_of.get(service)
        down = self._engines.get(engine).down if engine else None
        return down.message if down else ""

    def apply_settings(self, service: str, settings: Mapping[str, Any]) -> None:
        content = self._files.write_settings(service, settings)
        failed: StorageFailed | None = None
        for replica in self._replicas.of(service):
            if replica.gone is not None:
                continue
            try:
                place(replica.folder / "settings.json", content)
            except OSError as problem:
                # The others' keys must end all the same, whatever one has done to its folder.
                failed = StorageFailed(f"{replica.folder} cannot be written: {problem.strerror or problem}.")
                continue
            answer = ask(replica.admin, "POST", "/reload")
            if answer is not None:
                replica.answer = {**replica.answer, "generation": answer.get("generation", 0)}
        if failed is not None:
            raise failed

    def drain(self, replica_id: str, timeout_s: float) -> None:
        replica = self._replicas.find(replica_id)
        if replica is None or replica.drain_deadline_s is not None:
            return
        replica.drain_deadline_s = time.monotonic() + timeout_s
        if ask(replica.admin, "POST", "/drain", {"grace_s": 0}) is None:
            # With a dead engine it is killed after its time, as soon as that answers again.
            with contextlib.suppress(EngineFailed):
                self._engines.get(replica.engine).signal(replica.container, "SIGTERM")

    def kill(self, replica_id: str) -> None:
        replica = self._replicas.find(replica_id)
        if replica is not None:
            self._engines.get(replica.engine).signal(replica.container, "SIGKILL")

    def forget(self, replica_id: str) -> None:
        replica = self._replicas.find(replica_id)
        if replica is None:
            return
        self._replicas.remove(replica)
        try:
            self._engines.get(replica.engine).remove(replica.container)
        except EngineFailed:
            # Its container is removed when the engine answers again.
            (replica.own / "forgotten").touch()
        else:
            remove_folder(replica.own)
        self._logs.prune(replica.service, {one.id for one in self._replicas.of(replica.service)})

    def remove_service(self, service: str) -> None:
        self._engine_of.pop(service, None)
        self._logs.remove_all(service)
        self._files.remove(service)

    def log_files(self, service: str) -> list[Path]:
        return self._logs.files(service)

    # -- looking -------------------------------------------------------------------------------------------------

    def _look(self, replica: ContainerReplica) -> Observed:
        if replica.gone is not None:
            return replica.gone
        now = time.monotonic()
        state = replica.answer.get("state", "loading")
        known = state == "ready" and replica.asked_s is not None and now - replica.asked_s < _ASK_READY_EVERY_S
        if not known or replica.drain_deadline_s is not None:
            replica.asked_s = now
            replica.take(ask(replica.admin, "GET", "/status") or replica.answer)
        replica.gone = self._ended(replica) or self._misleading(replica)
        if replica.gone is not None:
            return replica.gone
        observed = replica.observed()
        if observed.state == "draining" and replica.drain_deadline_s is None:
            replica.drain_deadline_s = now + _UNKNOWN_DRAIN_S
        if observed.state == "starting":
            replica.overdue = now - replica.created_at > replica.init_timeout_s + _STARTUP_MARGIN_S
        if replica.overdue or (replica.drain_deadline_s is not None and now > replica.drain_deadline_s):
            self._try_to_kill(replica)
        return observed

    def _ended(self, replica: ContainerReplica) -> Observed | None:
        now = time.monotonic()
        if replica.seen_alive and replica.locked:
            replica.ended_s = None
            return None
        if replica.seen_alive:
            replica.ended_s = replica.ended_s or now
        if replica.looked_s is not None and now - replica.looked_s < _ASK_ENGINE_EVERY_S:
            return None
        replica.looked_s = now
        engine = self._engines.get(replica.engine)
        try:
            state = engine.look(replica.container)
        except EngineFailed as problem:
            # One that was never seen may live for all we know; one whose lock is free does not, whoever says so.
            if not replica.seen_alive:
                return None
            if not isinstance(problem, EngineUnreachable):
                return self._gone(replica, _UNTOLD)
            # It ended with its engine, most likely: no failure but one that it told itself.
            failure, deterministic = replica.failure(None)
            return self._gone(replica, failure, deterministic, _UNTOLD)
        if state is not None and state.running:
            if replica.ended_s is None or now - replica.ended_s < _ENGINE_NOTICES_S:
                return None
            return self._gone(replica, "The replica has ended, and its container engine has not noticed.")
        failure, deterministic = replica.why(state)
        if failure is not None:
            self._logs.keep_output(replica, engine)
        if failure is not None and not deterministic:
            self._logs.note_end(replica, failure)
        return self._gone(replica, failure, deterministic)

    def _misleading(self, replica: ContainerReplica) -> Observed | None:
        """The gateway goes wherever a link leads, to the engine's own socket perhaps. It is ended when forgotten."""
        with contextlib.suppress(OSError):
            if not is_socket(str(replica.folder / "sock")):
                failure = "Code in the replica has put something else in the place of its socket, so it is ended."
                self._logs.note_end(replica, failure)
                return self._gone(replica, failure)
        return None

    def _gone(
        self, replica: ContainerReplica, failure: str | None, deterministic: bool = False, reason: str = ""
    ) -> Observed:
        return replace(
            replica.observed(), state="gone", failure=failure, deterministic=deterministic, reason=failure or reason
        )

    def _try_to_kill(self, replica: ContainerReplica) -> None:
        try:
            self.kill(replica.id)
        except EngineFailed:
            return  # asked again at the next look

    def _adopt(self) -> None:
        for own in sorted(self._folders.iterdir()):
            replica = load(own)
            if replica is None:
                remove_folder(own)
            elif not replica.forgotten:
                self._keep(replica)

    def _sweep(self, url: str) -> None:
        """Remove containers and images of this home that nobody knows any more. Called while the engine answers."""
        known = {replica.container for mine in self._replicas.by_service().values() for replica in mine}
        engine = self._engines.get(url)
        for found in engine.labelled({HOME: str(self._home.path)}):
            if found.name not in known and not self._is_begun(engine, found):
                engine.remove(found.name)
        self._images.prune(engine)
        for own in self._folders.iterdir():
            replica = load(own)
            if replica is not None and replica.forgotten and replica.engine == url and not engine.look(
                replica.container
            ):  # fmt: skip
                remove_folder(own)

    def _is_begun(self, engine: ContainerEngine, found: Found) -> bool:
        """Whether somebody of this control plane is starting it or waits for it."""
        if TRIAL in found.labels:
            return found.name in engine.held
        own = self._folders / (found.labels.get(REPLICA, "").rpartition("-")[2] or "-")
        return (own / "container.json").exists() and not (own / "forgotten").exists()

    def _keep(self, replica: ContainerReplica) -> None:
        self._engine_of[replica.service] = replica.engine
        self._replicas.add(replica)

    # -- files ---------------------------------------------------------------------------------------------------

    def _prepare(self, own: Path, replica_id: str, launch: Launch) -> None:
        """The folders of a replica, with all it needs to find there. Raises OSError."""
        started_at = utc_now()
        own.mkdir(mode=0o700)
        shared, logs = own / "m", self._logs.folder(launch.service, replica_id)
        logs.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        open_folder(shared)
        open_folder(logs)
        (shared / "lock").touch()
        (shared / "lock").chmod(0o666)
        spec = orders(replica_id, launch, started_at, self._log_limit_bytes)
        place(shared / "spec.json", json.dumps(spec, indent=1).encode())
        place(shared / "settings.json", self._files.settings(launch.service).read_bytes())
        note(own, notes(replica_id, launch, started_at))

    def _order(self, replica: ContainerReplica, launch: Launch, tag: str) -> Order:
        assert launch.container is not None
        return Order(
            name=container_name(replica.id),
            image=tag,
            command=[f"{SHARED}/spec.json"],
            user=USER,
            variables=variables(launch),
            labels={
                HOME: str(self._home.path),
                ENVIRONMENT: launch.container.environment,
                SERVICE: launch.service,
                REVISION: str(launch.revision),
                REPLICA: replica.id,
            },
            mounts={replica.folder: SHARED, self._logs.folder(launch.service, replica.id): LOGS},
            cpu=launch.cpu,
            memory_bytes=launch.container.memory_bytes,
            port=PORT,
        )

    def _remove_folders(self, own: Path, service: str, replica_id: str) -> None:
        remove_folder(own)
        self._logs.remove(service, replica_id)
