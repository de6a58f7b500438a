"""Who gets how many replicas when all services together want more than the machine has. Pure."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

# Cores that a replica counts as when its service does not say (`--cpu`): most wait more than they compute.
REPLICA_CORES = 0.25


@dataclass(frozen=True)
class Claim:
    """`floor` is what a service gets whatever the others want: min_replicas, or all of it when a user set the number.
    `cores` is what one of its replicas counts as."""

    service: str
    wants: int
    floor: int
    cores: float


def machine_cores() -> float:
    """Those that this process may use."""
    return float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def shares(claims: Sequence[Claim], capacity: float) -> dict[str, int]:
    """Replicas by service: what each wants when that fits into `capacity` cores, else max-min fair. Whoever holds the
    fewest cores gets the next replica, as long as it wants and fits one. Floors are given also when they do not fit."""
    given = {claim.service: min(claim.wants, claim.floor) for claim in claims}
    if wanted_cores(claims) <= capacity:
        return {claim.service: claim.wants for claim in claims}
    left = capacity - sum(given[claim.service] * claim.cores for claim in claims)
    open_claims = sorted(claims, key=lambda claim: claim.service)
    while True:
        open_claims = [c for c in open_claims if given[c.service] < c.wants and c.cores <= left + 1e-9]
        if not open_claims:
            return given
        poorest = min(open_claims, key=lambda claim: (given[claim.service] + 1) * claim.cores)
        given[poorest.service] += 1
        left -= poorest.cores


def wanted_cores(claims: Sequence[Claim]) -> float:
    return sum(claim.wants * claim.cores for claim in claims)


def why_less(claim: Claim, got: int, claims: Sequence[Claim], capacity: float) -> str:
    """The sentence for a service that gets less than it wants."""
    active = sum(1 for other in claims if other.wants)
    who = "it alone wants" if active == 1 else f"{active} services want"
    return (
        f"wants {claim.wants}, gets {got}: {who} {wanted_cores(claims):g} of the machine's {capacity:g} cores "
        f"({claim.cores:g} a replica)"
    )
