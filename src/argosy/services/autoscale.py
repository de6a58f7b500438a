"""How many replicas a service should have: one pure function, the same for every kind of environment.

The measure is *need*: requests that are worked on, that wait, and that were refused for want of room. Utilisation is
need / (ready replicas x concurrency). As Knative's autoscaler does it, replicas go up on the mean need of a minute, or
of six seconds when that asks for twice of what is ready (panic). They go down only to the highest need of the last
`delay_s`. A band of 10 % around the target keeps noise from moving anything.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

STABLE_S = 60.0
PANIC_S = 6.0
_PANIC_FACTOR = 2.0
_TOLERANCE = 0.1
# At most so many times what is ready, and at least that part of what there is, in one step.
_STEP = 2
# A quotient that is a whole number but for rounding asks for that number.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Sample:
    """One look at a service's replicas. `refused` is the mean number of requests that would have been worked on, had
    they not been shed since the sample before: sheds per second x seconds of a run."""

    at_s: float
    busy: float
    queued: float
    refused: float
    ready: int

    @property
    def need(self) -> float:
        return self.busy + self.queued + self.refused


@dataclass(frozen=True)
class Rule:
    """What the user wants. `target_utilization` in percent, `concurrency` is a replica's slots, `delay_s` how long a
    need is remembered before replicas are given up for it."""

    min_replicas: int
    max_replicas: int
    target_utilization: float
    concurrency: int
    delay_s: float


@dataclass(frozen=True)
class Verdict:
    """`raw` is what the measure asks for, `replicas` what is left of it after `limit`: "", step, min_replicas,
    max_replicas, delay. `utilization` in percent, None while nothing is ready; `window_s` is what it was taken over."""

    replicas: int
    raw: int
    utilization: float | None
    window_s: float
    limit: str
    reason: str


def decide(samples: Sequence[Sample], rule: Rule, current: int) -> Verdict:
    """`samples` oldest first, at least one; older ones than the rule's windows need do no harm. `current` is the number
    of replicas wanted so far."""
    newest = samples[-1]
    per_replica = rule.concurrency * rule.target_utilization / 100
    stable_s = min(STABLE_S, rule.delay_s)
    stable, burst = _mean_need(samples, stable_s), _mean_need(samples, PANIC_S)
    panic = burst > 0 and burst / per_replica >= _PANIC_FACTOR * newest.ready
    need, window_s = (max(stable, burst), PANIC_S) if panic and burst > stable else (stable, stable_s)
    raw = _ceil(need / per_replica)
    kept = _ceil(max(stable, _highest_burst(samples, rule.delay_s)) * (1 + _TOLERANCE) / per_replica)
    wanted, limit = current, ""
    if need / per_replica > current * (1 + _TOLERANCE) or (current == 0 and need > 0):
        wanted = min(raw, max(current, _STEP * newest.ready, 1))
        limit = "step" if wanted < raw else ""
    elif kept < current and samples[0].at_s <= newest.at_s - rule.delay_s:
        wanted = max(kept, current // _STEP)
        limit = "step" if wanted > kept else ""
    elif raw < current:
        limit = "delay"
    replicas = min(max(wanted, rule.min_replicas), rule.max_replicas)
    if replicas != wanted:
        limit = "min_replicas" if replicas > wanted else "max_replicas"
    room = newest.ready * rule.concurrency
    verdict = Verdict(replicas, raw, 100 * need / room if room else None, window_s, limit, "")
    return Verdict(
        replicas, raw, verdict.utilization, window_s, limit, _sentence(verdict, newest, need, rule, current, panic)
    )


def prune(samples: Sequence[Sample], delay_s: float) -> list[Sample]:
    """Without those that no window reaches any more, but for one that proves how far the record goes back."""
    oldest = samples[-1].at_s - max(STABLE_S, delay_s) - PANIC_S
    first = next(i for i, sample in enumerate(samples) if sample.at_s > oldest)
    return list(samples[max(0, first - 1) :])


def _mean_need(samples: Sequence[Sample], window_s: float) -> float:
    since = samples[-1].at_s - window_s
    needs = [sample.need for sample in samples if sample.at_s > since] or [samples[-1].need]
    return sum(needs) / len(needs)


def _highest_burst(samples: Sequence[Sample], delay_s: float) -> float:
    """The highest mean over the panic window that any moment of the last `delay_s` has seen."""
    since = samples[-1].at_s - delay_s
    highest = total = 0.0
    first = 0
    for number, sample in enumerate(samples):
        total += sample.need
        while samples[first].at_s <= sample.at_s - PANIC_S:
            total -= samples[first].need
            first += 1
        if sample.at_s > since:
            highest = max(highest, total / (number - first + 1))
    # Sums that went up and down again leave dust, which must not keep the last replica alive.
    return highest if highest > _ROUNDING else 0.0


def _ceil(value: float) -> int:
    return math.ceil(value - _ROUNDING)


def _sentence(verdict: Verdict, newest: Sample, need: float, rule: Rule, current: int, panic: bool) -> str:
    over = f"over {verdict.window_s:g} s" + (", panic" if panic and verdict.window_s == PANIC_S else "")
    use = f"{verdict.utilization:.0f} %" if verdict.utilization is not None else "no replica ready"
    shed = ", some were refused" if newest.refused else ""
    many = "no request" if need == 0 else f"{need:.1f} requests"
    found = f"{many} at work or waiting ({over}{shed}): {use}, target {rule.target_utilization:g} %"
    wants = f"; wants {verdict.raw}"
    match verdict.limit:
        case "step" if verdict.replicas > current:
            return f"{found}{wants}, {verdict.replicas} for now: at most twice what is ready"
        case "step":
            return f"{found}{wants}, {verdict.replicas} for now: at most half are given up at once"
        case "max_replicas":
            return f"{found}{wants}, limited by max_replicas"
        case "min_replicas":
            return f"{found}{wants}, kept at min_replicas"
        case "delay":
            return f"{found}{wants}, keeps {verdict.replicas}: the highest need of the last {rule.delay_s:g} s counts"
    if verdict.replicas == current:
        return f"{found}; {current or 'none'} {'is' if current < 2 else 'are'} right"
    return f"{found}{wants}"
