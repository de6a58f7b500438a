"""A service as the database has it, and what may be said of its number of replicas."""

from dataclasses import dataclass
from typing import Any

from argosy.errors import Conflict, InvalidOption
from argosy.records import ServiceSettings
from argosy.services.plan import Desired

MAX_REPLICAS = 1_000


@dataclass(frozen=True)
class Stored:
    """A service as the database has it."""

    id: int
    name: str
    environment: str
    description: str
    replicas: int
    scaled: int | None
    settings: ServiceSettings
    live_revision: int | None
    target_revision: int | None
    deleting: bool
    generation: int
    created_at: str
    updated_at: str

    @property
    def wanted(self) -> int:
        """Replicas: as the user set them, or as the autoscaler found."""
        return self.replicas if self.scaled is None else self.scaled

    @property
    def on_demand(self) -> bool:
        """Whether it may sleep without replicas until a request comes."""
        return self.settings.autoscale_enabled and self.settings.min_replicas == 0

    @property
    def desired(self) -> Desired:
        revisions = (self.live_revision, self.target_revision)
        least = self.settings.min_replicas if self.settings.autoscale_enabled else None
        return Desired(self.name, self.wanted, *revisions, self.deleting, least)

    @property
    def etag(self) -> str:
        return f'"{self.generation}-{self.live_revision}-{self.target_revision}-{self.replicas}"'


def check_manual(name: str, settings: ServiceSettings, replicas: int | None) -> None:
    """Conflict when somebody sets the number of replicas of a service that has it set by the autoscaler."""
    if settings.autoscale_enabled and replicas is not None:
        raise Conflict(
            f"Service {name} is autoscaled, from {settings.min_replicas} to {settings.max_replicas} replicas. Change "
            f"these limits (`argosy service update {name} --min-replicas N --max-replicas N`), or turn it off "
            f"(`argosy service update {name} --autoscale-enabled false -z {replicas}`)."
        )


def check_replicas(replicas: int) -> None:
    if not 0 <= replicas <= MAX_REPLICAS:
        raise InvalidOption("--replicas", replicas, f"it must be a whole number from 0 to {MAX_REPLICAS}")


def replicas_after(stored: Stored, settings: ServiceSettings, replicas: int | None) -> dict[str, Any]:
    """What of the number of replicas an update changes."""
    check_manual(stored.name, settings, replicas)
    if settings.autoscale_enabled:
        return {"scaled": min(max(stored.wanted, settings.min_replicas), settings.max_replicas)}
    # Turned off without another number, it stays at the one that it has; one that sleeps wakes up, as 0 would stop it.
    kept = max(1, stored.wanted) if stored.settings.autoscale_enabled else stored.replicas
    return {"scaled": None, "replicas": kept if replicas is None else replicas}
