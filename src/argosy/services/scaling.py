"""The autoscaler: looks at services that have it on, asks `autoscale.decide`, and writes down the number it finds.

A service that does nothing costs nothing but a glance at the gateway's counters: only one whose requests moved, or that
has some under way, has its replicas asked.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from argosy.environments.target import Load, Target
from argosy.errors import Error
from argosy.records import ScalingDecision, ServiceSettings, utc_now
from argosy.services import autoscale
from argosy.services.autoscale import Rule, Sample, Verdict
from argosy.services.fair_share import REPLICA_CORES, Claim, shares, why_less
from argosy.services.reconcile import Reconciler
from argosy.services.registry import ServiceRegistry
from argosy.services.stored import Stored

log = logging.getLogger(__name__)

KEPT_DECISIONS = 20
# The clock that calls `tick` is not exact.
_DUE_MARGIN_S = 0.2
# How often the gateway is asked while every service rests: asking costs a few milliseconds.
_REST_S = 2.0
# Samples of nothing that are remembered: enough for the longest delay.
_MOST_RESTING = 8_000

Traffic = Mapping[str, Mapping[str, int]]


@dataclass
class _Watched:
    """What is remembered of one autoscaled service."""

    samples: list[Sample] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    requests: int | None = None
    capacity: int = 0
    verdict: Verdict | None = None
    rests: bool = False
    decisions: deque[ScalingDecision] = field(default_factory=lambda: deque(maxlen=KEPT_DECISIONS))


class Autoscaler:
    """`traffic` gives the gateway's counters by service; it may raise Error. Thread-safe; `tick` blocks for up to the
    time that a replica may take to answer."""

    def __init__(
        self,
        registry: ServiceRegistry,
        reconciler: Reconciler,
        target: Target,
        traffic: Callable[[], Traffic],
        cores: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry, self._reconciler, self._target = registry, reconciler, target
        self._traffic, self._cores, self._clock = traffic, cores, clock
        self._watched: dict[str, _Watched] = {}
        self._held: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="autoscale")

    # -- what others ask -----------------------------------------------------------------------------------------

    def decisions(self, name: str) -> list[ScalingDecision]:
        """The last ones, newest first. Of those that change nothing in a row only the newest is kept."""
        with self._guard:
            watched = self._watched.get(name)
            return list(watched.decisions) if watched else []

    def hold(self, name: str) -> None:
        """A request waits for a replica: it counts as need until `release`, and wakes a service that sleeps."""
        stored = self._registry.get(name)
        if stored.on_demand and stored.wanted == 0 and self._registry.rescale(name, 1):
            rule = _rule(stored.settings, 0)
            verdict = Verdict(1, 1, None, 0.0, "wake", "a request came while there was no replica")
            self._note(name, 0, rule, verdict)
            self._reconciler.wake(name)
        with self._guard:
            self._held[name] += 1

    def release(self, name: str) -> None:
        with self._guard:
            self._held[name] -= 1
            self._held += Counter()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- one tick ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Decide for every service whose refresh period is over. Call it every second."""
        services = [stored for stored in self._reconciler.stored() if not stored.deleting]
        mine = [s for s in services if s.settings.autoscale_enabled and s.live_revision is not None]
        for name in set(self._watched) - {stored.name for stored in mine}:
            self._watched.pop(name, None)
        now = self._clock()
        period_s = _REST_S if all(watched.rests for watched in list(self._watched.values())) and not self._held else 0.0
        due = [stored for stored in mine if self._due(stored, now, period_s)]
        if not due:
            return
        traffic = self._counters()
        due = [stored for stored in due if not self._goes_on_resting(stored, traffic, now)]
        if not due:
            return
        for stored, sample in zip(due, self._pool.map(lambda s: self._sample(s, traffic, now), due), strict=True):
            watched = self._watched[stored.name]
            rule = _rule(stored.settings, watched.capacity)
            watched.samples = autoscale.prune([*watched.samples, sample], rule.delay_s)
            watched.verdict = autoscale.decide(watched.samples, rule, stored.wanted)
            still = watched.verdict.replicas == stored.wanted == rule.min_replicas
            watched.rests = still and not any(sample.need for sample in watched.samples)
        self._share_out(services, due)

    def _due(self, stored: Stored, now: float, period_s: float) -> bool:
        watched = self._watched.setdefault(stored.name, _Watched())
        last = watched.samples[-1].at_s if watched.samples else float("-inf")
        return now - last >= max(stored.settings.refresh_period_s, period_s) - _DUE_MARGIN_S

    def _goes_on_resting(self, stored: Stored, traffic: Traffic | None, now: float) -> bool:
        """One that has done nothing for as long as the record goes, at the fewest replicas: there is nothing to decide,
        only to remember."""
        watched = self._watched[stored.name]
        resting = watched.rests and stored.wanted == stored.settings.min_replicas and not self._held[stored.name]
        counted = None if traffic is None else traffic.get(stored.name)
        if not resting or counted is None or watched.requests != counted["requests"] or not _nothing_there(counted):
            return False
        watched.samples.append(Sample(now, 0, 0, 0, watched.samples[-1].ready))
        if len(watched.samples) > _MOST_RESTING:
            watched.samples = watched.samples[-_MOST_RESTING // 2 :]
        return True

    def _counters(self) -> Traffic | None:
        try:
            return self._traffic()
        except Error as problem:
            log.debug("the gateway tells no counters, so replicas are asked: %s", problem.message)
            return None

    def _sample(self, stored: Stored, traffic: Traffic | None, now: float) -> Sample:
        name, watched = stored.name, self._watched[stored.name]
        ready = sum(1 for replica in self._reconciler.observed(name) if replica.state == "ready")
        with self._guard:
            held = self._held[name]
        if not held and _at_rest(watched, None if traffic is None else traffic.get(name)):
            return Sample(now, 0, 0, 0, ready)
        found = self._target.load(name)
        watched.capacity = max((load.capacity for load in found), default=0) or watched.capacity
        slots = watched.capacity or stored.settings.max_concurrent_requests
        busy = sum(slots if load.silent else load.busy for load in found)
        seconds = now - watched.samples[-1].at_s if watched.samples else stored.settings.refresh_period_s
        refused = _refused(watched, found) / max(seconds, _DUE_MARGIN_S)
        return Sample(now, busy, sum(load.queued for load in found) + held, refused, ready)

    def _share_out(self, services: Sequence[Stored], due: Sequence[Stored]) -> None:
        claims = {stored.name: self._claim(stored) for stored in services}
        given = shares(list(claims.values()), self._cores)
        for stored in due:
            verdict, got = self._watched[stored.name].verdict, given[stored.name]
            assert verdict is not None, "decided above"
            if got < verdict.replicas:
                reason = why_less(claims[stored.name], got, list(claims.values()), self._cores)
                verdict = Verdict(got, verdict.raw, verdict.utilization, verdict.window_s, "share", reason)
            try:
                self._apply(stored, verdict)
            except Error as problem:
                log.warning("service %s could not be scaled: %s", stored.name, problem.message)

    def _claim(self, stored: Stored) -> Claim:
        cores = stored.settings.cpu or REPLICA_CORES
        watched = self._watched.get(stored.name)
        if watched is None or watched.verdict is None:
            return Claim(stored.name, stored.wanted, stored.wanted, cores)
        wants = watched.verdict.replicas
        # Whoever is asked for something has one replica at least.
        return Claim(stored.name, wants, min(wants, max(stored.settings.min_replicas, 1)), cores)

    def _apply(self, stored: Stored, verdict: Verdict) -> None:
        if verdict.replicas != stored.wanted:
            if not self._registry.rescale(stored.name, verdict.replicas):
                return
            log.info("service %s: %d -> %d replicas: %s", stored.name, stored.wanted, verdict.replicas, verdict.reason)
            self._reconciler.look(stored.name)
        self._note(stored.name, stored.wanted, _rule(stored.settings, 0), verdict)

    def _note(self, name: str, before: int, rule: Rule, verdict: Verdict) -> None:
        kept = self._watched.setdefault(name, _Watched()).decisions
        decision = ScalingDecision(
            at=utc_now(),
            before=before,
            replicas=verdict.replicas,
            raw=verdict.raw,
            utilization=None if verdict.utilization is None else round(verdict.utilization, 1),
            target=rule.target_utilization,
            window_s=verdict.window_s,
            limit=verdict.limit,
            reason=verdict.reason,
        )
        with self._guard:
            self._keep(kept, decision)

    @staticmethod
    def _keep(kept: deque[ScalingDecision], decision: ScalingDecision) -> None:
        before, after = decision.before, decision.replicas
        if kept and kept[0].before == kept[0].replicas == before == after:
            kept[0] = decision
        else:
            kept.appendleft(decision)


def _rule(settings: ServiceSettings, capacity: int = 0) -> Rule:
    """`capacity` is what the replicas say of themselves, 0 when they have not yet."""
    return Rule(
        min_replicas=settings.min_replicas,
        max_replicas=settings.max_replicas,
        target_utilization=settings.target_utilization,
        concurrency=capacity or settings.max_concurrent_requests,
        delay_s=settings.scale_down_delay_s,
    )


def _at_rest(watched: _Watched, counted: Mapping[str, int] | None) -> bool:
    """Whether the gateway has sent nothing since the last look, and waits for nothing."""
    before = watched.requests
    watched.requests = None if counted is None else counted["requests"]
    return counted is not None and before == counted["requests"] and _nothing_there(counted)


def _nothing_there(counted: Mapping[str, int]) -> bool:
    return not counted["sessions"] and not counted["queued"]


def _refused(watched: _Watched, found: Sequence[Load]) -> float:
    """Seconds of work that were shed since the last look. A replica seen for the first time has shed nothing yet that
    would count."""
    work_s = 0.0
    for load in found:
        if not load.silent:
            shed = load.refused - watched.refused.get(load.replica, load.refused)
            work_s += max(0, shed) * load.run_s
    told = {load.replica: load.refused for load in found if not load.silent}
    watched.refused = {load.replica: told.get(load.replica, watched.refused.get(load.replica, 0)) for load in found}
    return work_s
