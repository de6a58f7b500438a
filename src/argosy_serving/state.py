"""Where a replica is in its life, as its probes, its admin socket and its door see it."""

from dataclasses import dataclass

LOADING, READY, DRAINING, FAILED = "loading", "ready", "draining", "failed"


@dataclass
class State:
    """Changed on the loop only. `refusing`: the drain's grace is over, new work is turned away."""

    phase: str = LOADING
    reason: str = "init() has not finished"
    refusing: bool = False
    started_at: str = ""

    def become(self, phase: str, reason: str = "") -> None:
        self.phase, self.reason = phase, reason

    @property
    def takes_work(self) -> bool:
        return self.phase == READY or (self.phase == DRAINING and not self.refusing)
