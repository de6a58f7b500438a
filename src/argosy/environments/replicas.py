"""The replicas that a target knows of."""

import threading
from typing import Generic, Protocol, TypeVar


class Known(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def service(self) -> str: ...


Replica = TypeVar("Replica", bound=Known)


class Replicas(Generic[Replica]):
    """By service, then by id: with many services a look at one must not pass all others. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._known: dict[str, dict[str, Replica]] = {}

    def add(self, replica: Replica) -> None:
        with self._guard:
            self._known.setdefault(replica.service, {})[replica.id] = replica

    def remove(self, replica: Replica) -> None:
        with self._guard:
            mine = self._known.get(replica.service, {})
            mine.pop(replica.id, None)
            if not mine:
                self._known.pop(replica.service, None)

    def of(self, service: str) -> list[Replica]:
        with self._guard:
            return list(self._known.get(service, {}).values())

    def find(self, replica_id: str) -> Replica | None:
        with self._guard:
            return next((mine[replica_id] for mine in self._known.values() if replica_id in mine), None)

    def by_service(self) -> dict[str, list[Replica]]:
        with self._guard:
            return {service: list(mine.values()) for service, mine in self._known.items()}

    def services(self) -> set[str]:
        with self._guard:
            return set(self._known)
