"""A target and a router of plain memory, and a reconciler on a real database that is stepped by hand."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from argosy.environments.target import Launch, Load, Observed
from argosy.errors import GatewayFailed, StorageFailed
from argosy.keys import Vault, new_key
from argosy.records import ServiceSettings
from argosy.services.keyring import Keyring
from argosy.services.reconcile import Reconciler
from argosy.services.registry import ServiceRegistry
from argosy.services.routes import ServiceRoute
from argosy.services.scaling import Autoscaler
from argosy.services.starts import Starts
from argosy.services.stored import Stored
from store.shelf import Shelf


class FakeTarget:
    """Replicas become what `becomes` says when time passes; `deaf` ones do not confirm settings."""

    def __init__(self) -> None:
        self.hindrance = ""
        self.replicas: dict[str, Observed] = {}
        self.settings: dict[str, Mapping[str, Any]] = {}
        self.pushes: list[tuple[str, int, int]] = []
        self.drained: list[str] = []
        self.killed: list[str] = []
        self.removed: list[str] = []
        self.deaf: set[str] = set()
        self.loads: dict[str, Load] = {}
        self.asked = 0
        self.disk_full = False
        self.defect: Exception | None = None
        self._count = itertools.count(1)

    def start(self, launch: Launch) -> str:
        if self.disk_full:
            raise StorageFailed("The disk is full.")
        number = next(self._count)
        name = f"{launch.service}-{launch.revision}-r{number:03}"
        generation = self.settings.get(launch.service, {}).get("generation", 0)
        self.replicas[name] = Observed(
            name,
            launch.service,
            launch.revision,
            "starting",
            f"unix@/{name}",
            started_at=f"{number:03}",
            generation=generation,
        )
        return name

    def observe(self, service: str) -> list[Observed]:
        if self.defect:
            raise self.defect
        return [r for r in self.replicas.values() if r.service == service]

    def load(self, service: str) -> list[Load]:
        self.asked += 1
        ready = [r.id for r in self.observe(service) if r.state == "ready"]
        return [self.loads.get(name, Load(name)) for name in ready]

    def services(self) -> set[str]:
        return {r.service for r in self.replicas.values()}

    def ended(self) -> set[str]:
        return {r.service for r in self.replicas.values() if r.state == "gone"}

    def apply_settings(self, service: str, settings: Mapping[str, Any]) -> None:
        if self.disk_full:
            raise StorageFailed("The disk is full.")
        self.settings[service] = settings
        self.pushes.append((service, settings["generation"], len(settings["keys"])))
        for name, replica in self.replicas.items():
            if replica.service == service and name not in self.deaf:
                self.replicas[name] = replace(replica, generation=settings["generation"])

    def drain(self, replica_id: str, timeout_s: float) -> None:
        self.drained.append(replica_id)
        self.change(replica_id, state="draining")

    def kill(self, replica_id: str) -> None:
        self.killed.append(replica_id)
        self.change(replica_id, state="gone")

    def forget(self, replica_id: str) -> None:
        assert self.replicas.pop(replica_id).state == "gone"

    def trouble(self, service: str) -> str:
        return self.hindrance

    def remove_service(self, service: str) -> None:
        assert not self.observe(service)
        self.removed.append(service)

    def log_files(self, service: str) -> list[Path]:
        return []

    def change(self, name: str, **fields: object) -> None:
        self.replicas[name] = replace(self.replicas[name], **fields)  # type: ignore[arg-type]

    def time_passes(self) -> None:
        for name, replica in list(self.replicas.items()):
            following = {"starting": "ready", "draining": "gone"}.get(replica.state)
            if following:
                self.change(name, state=following)

    def states(self, service: str = "iris") -> list[tuple[int, str]]:
        return [(r.revision, r.state) for r in self.observe(service)]


class FakeRouter:
    def __init__(self) -> None:
        self.routes: dict[str, ServiceRoute] = {}
        self.applied: list[dict[str, tuple[str, ...]]] = []
        self.busy: dict[str, int] = {}
        self.broken = False

    def apply(self, routes: Mapping[str, ServiceRoute]) -> None:
        if self.broken:
            raise GatewayFailed("The gateway does not run.")
        self.routes = dict(routes)
        self.applied.append({name: tuple(r for r, _ in route.servers) for name, route in routes.items()})

    def in_use(self, service: str, replica: str) -> int:
        return self.busy.get(replica, 0)

    def servers(self, service: str = "iris") -> list[str]:
        return [name for name, _ in self.routes[service].servers]


class Services:
    """The service stage, with a control plane that can die and come back."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.keyring = Keyring(shelf.database, Vault(new_key()))
        self.registry = ServiceRegistry(shelf.database, self.keyring)
        self.target = FakeTarget()
        self.router = FakeRouter()
        self.launched: list[tuple[str, int]] = []
        self.launch_fails: dict[int, Exception] = {}
        self.starts_at_once = 10_000
        self.reconciler = self.new_reconciler()
        self.traffic: dict[str, dict[str, int]] = {}
        self.now_s = 0.0
        self.autoscaler = self.new_autoscaler()

    def new_reconciler(self) -> Reconciler:
        self.reconciler = Reconciler(
            self.registry,
            self.keyring,
            self.target,
            self.router,
            self._launch,
            lambda s, r: [f"log of {r}"],
            "http",
            Starts(self.starts_at_once),
        )
        return self.reconciler

    def new_autoscaler(self, cores: float = 100.0) -> Autoscaler:
        self.autoscaler = Autoscaler(
            self.registry, self.reconciler, self.target, lambda: self.traffic, cores, lambda: self.now_s
        )
        return self.autoscaler

    def seconds(self, count: int, *names: str) -> None:
        """So many seconds pass for the services of these names: replicas move on, the autoscaler decides."""
        for _ in range(count):
            self.now_s += 1
            self.autoscaler.tick()
            for name in names or ("iris",):
                self.target.time_passes()
                self.step(name)

    def _launch(self, service: str, revision: int) -> Launch:
        self.launched.append((service, revision))
        if revision in self.launch_fails:
            raise self.launch_fails[revision]
        return Launch(service, revision, Path("/i"), Path("/p"), Path("/r"), [])

    def create(self, name: str = "iris", replicas: int = 1, **settings: Any) -> Stored:
        image = self.shelf.image(name)
        stored = self.registry.create(name, "local", image, replicas, replace(ServiceSettings(), **settings), "")
        self.reconciler.wake(name)
        return stored

    def update(self, name: str = "iris", **changes: Any) -> Stored:
        stored = self.registry.update(name, **changes)
        self.reconciler.wake(name)
        return stored

    def new_image(self, name: str = "iris") -> Stored:
        self._versions = getattr(self, "_versions", 0) + 1
        return self.update(name, image=self.shelf.image(name, b"weights %d" % self._versions))

    def step(self, name: str = "iris") -> float:
        return self.reconciler._guarded_pass(name)

    def settle(self, name: str = "iris") -> None:
        """Until nothing changes any more."""
        for _ in range(60):
            self.target.time_passes()
            if self.step(name) >= 1.0:
                return
        raise AssertionError(f"never settles: {self.target.replicas}")

    def steps(self, count: int, name: str = "iris") -> None:
        for _ in range(count):
            self.target.time_passes()
            if name in self.reconciler._tended:
                self.step(name)

    def condition(self, name: str = "iris") -> tuple[str, str]:
        found = self.reconciler.condition(self.registry.get(name))
        return found.state, found.reason

    def revisions(self, name: str = "iris") -> dict[int, str]:
        return {r.number: r.state for r in self.registry.history(name, 100, None).items}


def crash(services: Services, *names: str, reason: str = "killed", deterministic: bool = False) -> None:
    for name in names or list(services.target.replicas):
        services.target.change(name, state="gone", failure=reason, deterministic=deterministic)
