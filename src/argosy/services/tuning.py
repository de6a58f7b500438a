"""From measured load curves to a service's limits, as pure functions.

The knee of a curve is where throughput / p99 is largest: L. Kleinrock's "power" (Power and deterministic rules of thumb
for probabilistic problems in computer communications, 1979), with the p99 as the response time. Before it more callers
bring more answers, behind it they bring longer waits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

# Fewer slots or no batches are taken while they reach this part of the best throughput: both have a price.
_GOOD_ENOUGH = 0.9
_BATCHES_PAY = 1.2
_LONGEST_QUEUE = 1000


@dataclass(frozen=True)
class Point:
    """`clients` callers in a closed loop. `rate` answers a second, times in milliseconds, `cores` that it kept busy."""

    clients: int
    rate: float
    p50_ms: float
    p99_ms: float
    cores: float


@dataclass(frozen=True)
class Curve:
    """What a replica with `slots` and batches of `batch` rows did under more and more callers. Not `able`: it could
    not work so, for this `reason`, and perhaps without a point."""

    slots: int
    batch: int
    points: list[Point] = field(default_factory=list)
    able: bool = True
    reason: str = ""

    @property
    def knee(self) -> Point | None:
        return max(self.points, key=lambda point: point.rate / point.p99_ms, default=None)

    @property
    def peak(self) -> float:
        return max((point.rate for point in self.points), default=0.0)


@dataclass(frozen=True)
class Proposal:
    """`reasons` say in a sentence each where a value comes from. `rate` is what the replicas carry together, at the
    utilisation that autoscaling aims at."""

    max_concurrent_requests: int
    max_batch_size: int
    max_queued_requests: int
    replicas: int
    rate: float
    reasons: list[str]


def more_slots_help(curves: Sequence[Curve]) -> bool:
    """Whether the last curve was worth its slots, so that more of them should be tried."""
    plain = [curve for curve in curves if curve.batch == 1]
    return len(plain) < 2 or plain[-1].peak * _GOOD_ENOUGH > max(curve.peak for curve in plain[:-1])


def best_slots(curves: Sequence[Curve]) -> Curve:
    """The curve with the fewest slots that is good enough. One of a single request at a time must have points."""
    plain = [curve for curve in curves if curve.batch == 1 and curve.able]
    best = max(curve.peak for curve in plain)
    return min((curve for curve in plain if curve.peak >= best * _GOOD_ENOUGH), key=lambda curve: curve.slots)


def propose(
    curves: Sequence[Curve], max_queue_wait_ms: int, cores: float, wanted_rate: float | None, utilization: float = 0.7
) -> Proposal:
    """`cores` of the machine, `wanted_rate` in requests a second or None; the first curve must have points."""
    chosen = best_slots(curves)
    reasons = [_about_slots(chosen, curves)]
    batched = max((curve for curve in curves if curve.batch > 1), key=lambda curve: curve.peak, default=None)
    if batched is not None and not batched.able:
        reasons.append(f"no batches: {batched.reason}")
    elif batched is not None:
        pays = batched.peak >= chosen.peak * _BATCHES_PAY
        reasons.append(
            f"batches of {batched.batch} rows answer {batched.peak / chosen.peak:.1f} x as much: "
            + ("worth it" if pays else "not worth it")
        )
        chosen = batched if pays else chosen
    knee = chosen.knee
    assert knee is not None, "what is chosen is able"
    queue = max(1, min(_LONGEST_QUEUE, math.floor(knee.rate * max_queue_wait_ms / 1000)))
    reasons.append(f"at {knee.rate:.0f} answers/s, {queue} waiting requests are answered within {max_queue_wait_ms} ms")
    each = knee.rate * utilization
    room = max(1, math.floor(cores / max(knee.cores, 0.01)))
    replicas = room if wanted_rate is None else max(1, math.ceil(wanted_rate / each))
    reasons.append(_about_replicas(replicas, room, each, knee, cores, wanted_rate))
    return Proposal(chosen.slots, chosen.batch, queue, replicas, replicas * each, reasons)


def _about_slots(chosen: Curve, curves: Sequence[Curve]) -> str:
    more = [curve for curve in curves if curve.batch == 1 and curve.slots > chosen.slots]
    if not more:
        return f"{chosen.slots} at once: the most that was tried, and still the best"
    if not more[-1].able:
        return f"{chosen.slots} at once: no {more[-1].slots}, {more[-1].reason}"
    gain = max(curve.peak for curve in more) / chosen.peak
    return f"{chosen.slots} at once: {more[-1].slots} answer {gain:.2f} x as much"


def _about_replicas(replicas: int, room: int, each: float, knee: Point, cores: float, wanted_rate: float | None) -> str:
    use = f"each carries {each:.0f}/s with room to spare and keeps {knee.cores:.2f} cores busy at its knee"
    several = "1 replica" if replicas == 1 else f"{replicas} replicas"
    if wanted_rate is None:
        return f"{several} {'fits' if replicas == 1 else 'fit'} on {cores:g} cores: {use}"
    if replicas > room:
        return f"{wanted_rate:g}/s need {several}, but {cores:g} cores carry {room}: {use}"
    return f"{wanted_rate:g}/s need {several}: {use}"
