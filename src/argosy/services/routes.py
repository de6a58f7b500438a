"""Which replicas the gateway sends to: the table, and how its changes come to the gateway."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from argosy.services.tended import Tended


@dataclass(frozen=True)
class ServiceRoute:
    """Where requests for a service go: replica ids with their addresses. `on_demand`: with no replica to send to,
    requests are held and wake the service."""

    service: str
    servers: tuple[tuple[str, str], ...]
    timeout_ms: int
    max_connections: int
    on_demand: bool = False
    overload_status: int = 429


class Router(Protocol):
    """What the reconciler needs of a gateway."""

    def apply(self, routes: Mapping[str, ServiceRoute]) -> None:
        """Send requests exactly there; returns when it is so."""

    def in_use(self, service: str, replica: str) -> int:
        """Requests at work on a replica that is not routed any more; 0 when it is unknown."""


@dataclass
class _Change:
    state: Tended
    routed: dict[str, str]
    done: bool = False
    problem: Exception | None = None


class RouteTable:
    """Changes go to the router one table after the other, never an older after a newer one. Those that come while one
    is under way go together in the next: a thousand replicas that become ready are no thousand tables.

    `routes` gives the whole table as `Tended.routed` says; under `guard` that is what the router has.
    """

    def __init__(self, router: Router, routes: Callable[[], Mapping[str, ServiceRoute]]) -> None:
        self._router, self._routes = router, routes
        self.guard = threading.RLock()
        self._waiting: list[_Change] = []
        self._waiting_guard = threading.Lock()

    def change(self, state: Tended, routed: dict[str, str]) -> None:
        """Returns when the router has it; what it raises is raised here, and the service's routes are as before."""
        mine = _Change(state, routed)
        with self._waiting_guard:
            self._waiting.append(mine)
        with self.guard:
            # Done already when the thread before took it along.
            if not mine.done:
                self._apply_waiting()
        if mine.problem is not None:
            raise mine.problem

    def _apply_waiting(self) -> None:
        with self._waiting_guard:
            batch, self._waiting = self._waiting, []
        self._apply(batch)
        if len(batch) > 1 and batch[0].problem is not None:
            # One that the router cannot take must not keep the others from it.
            for change in batch:
                self._apply([change])

    def _apply(self, batch: list[_Change]) -> None:
        before = [(change.state, change.state.routed) for change in batch]
        for change in batch:
            change.state.routed, change.done, change.problem = change.routed, True, None
        try:
            self._router.apply(self._routes())
        except Exception as problem:  # noqa: BLE001 - raised to whoever asked for a change
            for state, routed in reversed(before):
                state.routed = routed
            for change in batch:
                change.problem = problem
