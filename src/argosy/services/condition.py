"""A service's state in one word and one sentence, from what is wanted and what is seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from argosy.environments.target import Observed
from argosy.services.plan import Desired


@dataclass(frozen=True)
class Condition:
    """`state`: deploying, healthy, degraded, failed, stopped."""

    state: str
    reason: str


def condition(desired: Desired, observed: Sequence[Observed], last_failure: str, trouble: str = "") -> Condition:
    """`last_failure` is why the newest replica or rollout failed, empty when nothing did since the last good state.
    `trouble` is what keeps the reconciler from its work at the moment: a full disk, a gateway that does not run."""
    ready = sum(1 for r in observed if r.state == "ready" and r.revision == desired.live)
    if desired.deleting:
        return Condition("stopped", f"being deleted, {len(observed)} replicas left")
    if desired.target is not None and desired.target != desired.live:
        hindrance = f"; {trouble}" if trouble else ""
        new = sum(1 for r in observed if r.state == "ready" and r.revision == desired.target)
        kept = f"; revision {desired.live} answers meanwhile" if desired.live is not None and ready else ""
        progress = f"revision {desired.target}: {new} of {max(1, desired.replicas)} replicas ready"
        return Condition("deploying", f"{progress}{kept}{hindrance}")
    if desired.live is None:
        return Condition("failed", last_failure or "no revision of this service has ever been ready")
    if desired.replicas == 0 and desired.least == 0:
        asleep = "scaled to zero, the next request starts a replica"
        return (
            Condition("degraded", f"{asleep}; the last one failed: {last_failure}")
            if last_failure
            else Condition("healthy", asleep)
        )
    if desired.replicas == 0:
        return Condition("stopped", "scaled to 0 replicas")
    if ready >= desired.replicas and trouble:
        return Condition("degraded", f"{ready} of {desired.replicas} replicas ready, but: {trouble}")
    if ready >= desired.replicas:
        return Condition("healthy", f"{ready} of {desired.replicas} replicas ready")
    if desired.least is not None and 0 < ready >= desired.least and not last_failure and not trouble:
        return Condition("healthy", f"{ready} of {desired.replicas} replicas ready, the others start")
    if not ready and not last_failure:
        return Condition("deploying", f"0 of {desired.replicas} replicas ready, {trouble or 'the others start'}")
    why = "".join(f": {reason}" for reason in (last_failure, trouble) if reason)
    return Condition("degraded" if ready else "failed", f"{ready} of {desired.replicas} replicas ready{why}")
