"""Where replicas run, seen from the service stage: start, observe, drain, stop. One implementation per kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Container:
    """What a replica of the kind `container` needs beside. `engine` is the socket of Docker or Podman as a URL, `image`
    the digest of an OCI manifest in this home's layout, `name` the image's as people know it."""

    environment: str
    engine: str
    image: str
    name: str
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Launch:
    """What a replica needs to start. `variables` are the user's, secrets already looked up; `cpu` in cores.

    `max_batch_size` is tried in place of what the image says. With `container` the folders are those in the container.
    """

    service: str
    revision: int
    image_folder: Path
    python: Path
    runtime_folder: Path
    models: Sequence[tuple[str, int]]
    slots: int = 1
    max_batch_size: int | None = None
    cpu: float | None = None
    init_timeout_s: float = 600.0
    variables: Mapping[str, str] = field(default_factory=dict)
    container: Container | None = None


@dataclass(frozen=True)
class Observed:
    """One replica as it is now. `state`: starting, ready, draining, gone.

    `failure` is set when it is gone and did not end as it should: why, in one sentence. `deterministic` says that the
    replica itself found that it cannot work (its `init()` raised, say), so that another try would end the same.
    `address` is where the gateway reaches it, `generation` the live settings it has taken over, `capacity` how many
    requests it works on at once; 0 when it has not said so yet.
    """

    id: str
    service: str
    revision: int
    state: str
    address: str
    pid: int | None = None
    started_at: str = ""
    in_flight: int = 0
    generation: int = 0
    capacity: int = 0
    reason: str = ""
    failure: str | None = None
    deterministic: bool = False


@dataclass(frozen=True)
class Load:
    """What a ready replica does at this moment. `refused` counts the requests it shed for want of room since its
    start, `run_s` is the mean time of a run. `capacity` is how many it works on at once, a batch in every slot perhaps;
    0 when it does not say. `silent`: it did not answer, as one that holds the interpreter."""

    replica: str
    busy: int = 0
    queued: int = 0
    refused: int = 0
    run_s: float = 0.0
    capacity: int = 0
    silent: bool = False


class Target(Protocol):
    """Every call may block for seconds: never call it on an event loop."""

    def start(self, launch: Launch) -> str:
        """Start one replica, detached; its id. Does not wait until it is ready."""

    def observe(self, service: str) -> list[Observed]:
        """Every replica of a service that is not forgotten, also those that an earlier control plane started."""

    def load(self, service: str) -> list[Load]:
        """What each replica that was ready when last observed does now."""

    def services(self) -> set[str]:
        """Names of all services that have a replica here."""

    def ended(self) -> set[str]:
        """Names of services with a replica that seems to have ended since it was last observed. Cheap, whatever the
        number of replicas: it is asked every second."""

    def trouble(self, service: str) -> str:
        """What keeps replicas of a service from being started or ended at the moment, "" when nothing does. Cheap."""

    def apply_settings(self, service: str, settings: Mapping[str, Any]) -> None:
        """Make `settings` what the replicas of a service follow, and tell those that run."""

    def drain(self, replica_id: str, timeout_s: float) -> None:
        """Finish what is begun, then end; killed after `timeout_s`. Called when the gateway sends nothing more."""

    def kill(self, replica_id: str) -> None:
        """End it now."""

    def forget(self, replica_id: str) -> None:
        """Remove what a replica that is gone has left, except its log."""

    def remove_service(self, service: str) -> None:
        """Remove what a deleted service has left: live settings, scratch folders, logs."""

    def log_files(self, service: str) -> list[Path]:
        """Log files of a service's replicas, older ones first."""
