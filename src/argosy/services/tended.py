"""What the reconciler remembers of a service between two passes."""

import threading
import time
from dataclasses import dataclass, field

from argosy.environments.target import Observed
from argosy.services.plan import Desired
from argosy.services.stored import Stored

_BACKOFF_LONGEST_S = 60.0
# A service whose replicas were all ready this long starts the back-off anew.
_STEADY_S = 60.0


@dataclass
class Tended:
    """`routed` has the addresses of the replicas that the gateway sends to, `lost` counts by revision those that
    vanished. `last_failure` is why a replica or rollout failed, `trouble` what keeps the reconciler from its work,
    `announced` the capacity that the gateway has been told, None while it does not know the service."""

    stored: Stored | None = None
    observed: list[Observed] = field(default_factory=list)
    routed: dict[str, str] = field(default_factory=dict)
    pushed_generation: int = 0
    crashes: int = 0
    not_before_s: float = 0.0
    steady_since_s: float | None = None
    lost: dict[int, int] = field(default_factory=dict)
    last_failure: str = ""
    failed_log: list[str] = field(default_factory=list)
    trouble: str = ""
    stale: bool = True
    announced: int | None = None
    guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def capacity(self) -> int:
        """Requests that one replica works on at once, as far as they have said."""
        return max((replica.capacity for replica in self.observed), default=0)

    def start_anew(self) -> None:
        """What went wrong before counts no more."""
        self.crashes, self.not_before_s, self.lost = 0, 0.0, {}
        self.last_failure, self.failed_log = "", []

    def back_off(self) -> None:
        """Later starts wait, in seconds: 0, 1, 3, 7, ... 60."""
        delay_s = min(_BACKOFF_LONGEST_S, 2.0 ** min(self.crashes, 10) - 1)
        self.crashes, self.not_before_s = self.crashes + 1, time.monotonic() + delay_s

    @property
    def may_start(self) -> bool:
        return time.monotonic() >= self.not_before_s

    def note_steadiness(self, desired: Desired) -> None:
        ready = sum(1 for r in self.observed if r.state == "ready" and r.revision == desired.live)
        if desired.live is None or ready < desired.replicas:
            self.steady_since_s = None
        elif self.steady_since_s is None:
            self.steady_since_s = time.monotonic()
        elif time.monotonic() - self.steady_since_s > _STEADY_S and self.crashes:
            self.start_anew()

    def calm(self, desired: Desired) -> bool:
        """Nothing is left to do, to confirm or to forgive."""
        replicas = desired.replicas if desired.live is not None else 0
        return (
            desired.live == desired.target
            and self.stored is not None
            and self.pushed_generation == self.stored.generation
            and not self.crashes
            and len(self.observed) == replicas
            and all(r.state == "ready" and r.id in self.routed for r in self.observed)
        )
