"""From what is wanted and what is seen to the next steps, as a pure function.

It is asked again after every step and every second, so it only ever says what can be done now. The order that keeps
requests safe: new replicas ready -> routed -> revision live -> old ones out of the route -> nothing in use -> drained
-> gone -> forgotten.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from argosy.environments.target import Observed

# A replica that vanished without a word (killed, out of memory) may do so by accident: a rollout tries again.
_ROLLOUT_ATTEMPTS = 3


@dataclass(frozen=True)
class Desired:
    """What a service should be. `live` takes traffic now, `target` is rolled out when it differs from `live`.
    `least` is set when the number comes from the autoscaler: the fewest. With 0 it may sleep until a request comes."""

    service: str
    replicas: int
    live: int | None
    target: int | None
    deleting: bool = False
    least: int | None = None


@dataclass(frozen=True)
class Seen:
    """A replica, whether the gateway sends to it, and how many requests it still sends."""

    replica: Observed
    routed: bool = False
    in_use: int = 0


@dataclass(frozen=True)
class Start:
    """Start one replica of a revision; does not wait."""

    revision: int


@dataclass(frozen=True)
class Route:
    """Let the gateway send requests to a replica that is ready."""

    replica: str


@dataclass(frozen=True)
class Unroute:
    """Let the gateway send nothing new to a replica."""

    replica: str


@dataclass(frozen=True)
class Drain:
    """Let a replica that gets nothing new finish and end."""

    replica: str


@dataclass(frozen=True)
class Kill:
    """End a replica that serves nothing: it is still starting and not wanted any more."""

    replica: str


@dataclass(frozen=True)
class Forget:
    """Remove what a replica that is gone left behind. `failure` says why it went, when it should not have."""

    replica: str
    failure: str | None = None


@dataclass(frozen=True)
class Promote:
    """The target revision is ready everywhere: it is the live one from now on."""

    revision: int


@dataclass(frozen=True)
class Fail:
    """The target revision does not come up: the live one stays. `replica` is whose log tells more."""

    revision: int
    reason: str
    replica: str


@dataclass(frozen=True)
class Removed:
    """Nothing of a service that is to be deleted is left."""


Action = Start | Route | Unroute | Drain | Kill | Forget | Promote | Fail | Removed


def actions(desired: Desired, seen: Sequence[Seen], attempts_lost: int = 0, may_start: bool = True) -> list[Action]:
    """The next steps. `attempts_lost`: replicas of the target that vanished in this rollout. `may_start` is False
    while the back-off after a crash lasts."""
    alive = [s for s in seen if s.replica.state != "gone"]
    forget = [Forget(s.replica.id, s.replica.failure) for s in seen if s.replica.state == "gone"]
    if desired.deleting:
        return [*forget, *_retire(alive)] if seen else [Removed()]
    rolling = desired.target is not None and desired.target != desired.live
    if rolling and desired.target is not None:
        failed = _rollout_failure(desired.target, seen, attempts_lost)
        if failed is not None:
            return [failed]
    # A rollout proves the target on one replica at least, also of a service that is scaled to none.
    target_replicas = max(1, desired.replicas) if rolling else desired.replicas
    kept: list[Seen] = []
    steps: list[Action] = []
    # The live revision is kept whole while the target comes up.
    for revision in sorted({r for r in (desired.live, desired.target) if r is not None}):
        of_revision = _steadiest(s for s in alive if s.replica.revision == revision)
        count = target_replicas if revision == desired.target else desired.replicas
        kept += of_revision[:count]
        steps += [Start(revision)] * (max(0, count - len(of_revision)) if may_start else 0)
    kept_ids = {s.replica.id for s in kept}
    ready = [s for s in kept if s.replica.state == "ready"]
    if rolling and desired.target is not None:
        new = [s for s in ready if s.replica.revision == desired.target]
        if len(new) < target_replicas:
            ready = [s for s in ready if s.replica.revision != desired.target]
        elif all(s.routed for s in new):
            steps.append(Promote(desired.target))
    steps += [Route(s.replica.id) for s in ready if not s.routed]
    return [*forget, *steps, *_retire([s for s in alive if s.replica.id not in kept_ids])]


def _rollout_failure(target: int, seen: Sequence[Seen], attempts_lost: int) -> Fail | None:
    lost = [s.replica for s in seen if s.replica.revision == target and s.replica.state == "gone" and s.replica.failure]
    certain = [r for r in lost if r.deterministic]
    if certain or (lost and attempts_lost + len(lost) >= _ROLLOUT_ATTEMPTS):
        worst = (certain or lost)[0]
        return Fail(target, worst.failure or "", worst.id)
    return None


def _steadiest(replicas: Iterable[Seen]) -> list[Seen]:
    """Those that are to be kept first: ready before starting, older before younger; draining ones do not count."""
    counted = [s for s in replicas if s.replica.state in ("ready", "starting")]
    return sorted(counted, key=lambda s: (s.replica.state != "ready", s.replica.started_at, s.replica.id))


def _retire(unwanted: Sequence[Seen]) -> list[Action]:
    steps: list[Action] = []
    for one in unwanted:
        if one.routed:
            steps.append(Unroute(one.replica.id))
        elif one.replica.state == "starting":
            steps.append(Kill(one.replica.id))
        elif one.replica.state == "ready" and one.in_use == 0:
            steps.append(Drain(one.replica.id))
    return steps
