"""The scaling policy as a pure function: windows, bounds, and what must hold for any load."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.services.autoscale import Rule, Sample, Verdict, decide, prune

RULE = Rule(min_replicas=1, max_replicas=10, target_utilization=70, concurrency=1, delay_s=60)
NEEDS = st.lists(st.floats(0, 50).map(lambda need: round(need, 2)), min_size=1, max_size=150)
RULES = st.builds(
    lambda low, more, target, concurrency, delay: Rule(low, low + more, target, concurrency, delay),
    st.integers(0, 5),
    st.integers(0, 20).map(lambda more: more or 1),
    st.sampled_from([20, 50, 70, 100]),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([5.0, 60.0, 120.0]),
)


def record(needs: Sequence[float], ready: int) -> list[Sample]:
    return [Sample(float(second), need, 0.0, 0.0, ready) for second, need in enumerate(needs)]


def run(
    needs: Sequence[float],
    rule: Rule = RULE,
    current: int = 1,
    start_s: int = 0,
    need_of: Callable[[float, int], float] = lambda need, ready: need,
) -> list[Verdict]:
    """A service under this load, one decision a second. Replicas are ready `start_s` after they are wanted."""
    samples: list[Sample] = []
    verdicts: list[Verdict] = []
    wanted = [current]
    for second, need in enumerate(needs):
        ready = min(wanted[max(0, len(wanted) - 1 - start_s) :])
        samples = prune([*samples, Sample(float(second), need_of(need, ready), 0.0, 0.0, ready)], rule.delay_s)
        verdicts.append(decide(samples, rule, wanted[-1]))
        wanted.append(verdicts[-1].replicas)
    return verdicts


def numbers(verdicts: Sequence[Verdict]) -> list[int]:
    return [verdict.replicas for verdict in verdicts]


def changes(verdicts: Sequence[Verdict]) -> list[int]:
    found = numbers(verdicts)
    return [number for before, number in itertools.pairwise(found) if before != number]


def test_up_at_once_doubling_what_is_ready() -> None:
    found = run([5.0] * 10)
    assert numbers(found)[:4] == [2, 4, 8, 8], "5 requests at 70 % want 8"
    assert (found[0].raw, found[0].limit, found[0].utilization) == (8, "step", 500.0)
    assert "wants 8, 2 for now" in found[0].reason


def test_the_next_step_waits_until_the_last_one_is_ready() -> None:
    assert numbers(run([5.0] * 8, start_s=2)) == [2, 2, 2, 4, 4, 4, 8, 8]


def test_a_burst_is_seen_within_seconds_of_a_quiet_hour() -> None:
    found = numbers(run([0.0] * 100 + [4.0] * 10))
    assert found[99] == 1
    assert found[106] > 2, "the mean of a minute alone would have seen it much later"


def test_a_little_too_much_is_seen_by_the_mean_of_a_minute() -> None:
    found = run([0.5] * 60 + [1.0] * 60)
    assert found[62].replicas == 1
    assert found[-1].replicas == 2
    assert found[-1].window_s == 60


def test_down_only_after_the_highest_need_of_a_minute_is_forgotten() -> None:
    found = numbers(run([5.0] * 30 + [0.0] * 100))
    assert found[29] == 8
    fell = next(second for second, number in enumerate(found) if second > 29 and number < 8)
    assert 30 + 59 <= fell <= 30 + 68
    assert all(after >= before // 2 for before, after in zip(found[fell:], found[fell + 1 :], strict=False))
    assert found[fell + 6] == 1


def test_nothing_is_given_up_before_a_whole_window_was_seen() -> None:
    """As after a restart of the control plane: what it has not seen it does not take for idle."""
    found = run([0.0] * 70, current=8)
    assert set(numbers(found)[:60]) == {8}
    assert found[30].limit == "delay"
    assert "keeps 8" in found[30].reason
    assert numbers(found)[-1] == 1


def test_to_zero_and_from_zero() -> None:
    rule = replace(RULE, min_replicas=0)
    found = run([0.0] * 70 + [1.0] * 3, rule)
    assert numbers(found)[59:61] == [1, 0]
    assert found[70].replicas == 1, "the first request starts the first replica"
    assert found[70].utilization is None
    assert "no replica ready" in found[70].reason


def test_a_trickle_keeps_the_last_replica() -> None:
    assert set(numbers(run([0.0] * 40 + ([1.0] + [0.0] * 30) * 10, replace(RULE, min_replicas=0)))) == {1}


@pytest.mark.parametrize(
    ("low", "high", "need", "number", "limit"), [(3, 5, 0, 3, "min_replicas"), (1, 2, 9, 2, "max_replicas")]
)
def test_limits_of_the_user(low: int, high: int, need: float, number: int, limit: str) -> None:
    found = run([need] * 80, replace(RULE, min_replicas=low, max_replicas=high))
    assert found[-1].replicas == number
    assert found[-1].limit == limit and limit in found[-1].reason


def test_refused_requests_are_need() -> None:
    """A small queue hides the demand: one busy, none queued, and most of the load refused."""
    calm = [Sample(float(second), 1, 0, 0, 1) for second in range(7)]
    assert decide(calm, RULE, 2).replicas == 2
    shedding = [replace(sample, refused=4.0) for sample in calm]
    found = decide(shedding, RULE, 1)
    assert (found.raw, found.replicas) == (8, 2)
    assert "refused" in found.reason


@given(NEEDS, RULES, st.integers(0, 25))
def test_always_within_limits_and_steps(needs: list[float], rule: Rule, current: int) -> None:
    before = current
    ready = min(max(before, rule.min_replicas), rule.max_replicas)
    for verdict in run(needs, rule, current):
        assert rule.min_replicas <= verdict.replicas <= rule.max_replicas
        inside = min(max(before, rule.min_replicas), rule.max_replicas)
        assert verdict.replicas <= max(inside, 2 * max(before, ready), 1)
        assert verdict.replicas >= min(inside, max(before // 2, rule.min_replicas))
        assert verdict.reason
        before = ready = verdict.replicas


@given(NEEDS, st.floats(0, 20), RULES, st.integers(0, 25), st.integers(0, 25))
def test_more_load_never_wants_fewer(needs: list[float], more: float, rule: Rule, current: int, ready: int) -> None:
    less, higher = record(needs, ready), record([need + more for need in needs], ready)
    assert decide(less, rule, current).replicas <= decide(higher, rule, current).replicas


@given(st.floats(0, 30), RULES)
def test_a_steady_load_settles_and_stays(need: float, rule: Rule) -> None:
    found = numbers(run([need] * 400, rule, current=rule.min_replicas))
    assert len(set(found[-200:])) == 1
    enough = math.ceil(need / (rule.concurrency * rule.target_utilization / 100) / 1.1 - 1e-6)
    assert found[-1] >= min(max(enough, rule.min_replicas), rule.max_replicas)


@given(st.integers(2, 50), st.floats(1, 30), st.integers(0, 3))
def test_a_sawtooth_moves_nothing_once_its_peak_is_known(period: int, height: float, start_s: int) -> None:
    teeth = [height * (second % period) / (period - 1) for second in range(600)]
    assert changes(run(teeth, start_s=start_s)[240:]) == []


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=600, max_size=600), st.integers(2, 8))
def test_noise_around_a_steady_load_settles(noise: list[float], level: int) -> None:
    found = run([level + wobble for wobble in noise])
    assert len(changes(found[120:])) <= 2


def test_a_closed_loop_of_callers_is_no_feedback() -> None:
    """Whatever the number of replicas, so many callers are at work or wait: nothing oscillates."""
    assert len(changes(run([6.0] * 600, start_s=5)[60:])) == 0


@given(NEEDS, RULES)
def test_what_is_pruned_decides_nothing(needs: list[float], rule: Rule) -> None:
    whole = record([*needs, *needs], 2)
    assert decide(prune(whole, rule.delay_s), rule, 3) == decide(whole, rule, 3)


def test_a_recorded_load() -> None:
    """Requests at work or waiting in a real service, each second for five minutes: 4200 requests of 0.12 s in the mean
    at random moments, their rate rising and falling like a day's, with a burst of eight seconds. Up with the rise, no
    flapping, back to one replica."""
    needs = json.loads((Path(__file__).parent / "recorded_needs.json").read_text())
    found = run(needs, replace(RULE, max_replicas=30), start_s=3)
    moves = changes(found)
    highest = max(sum(needs[i : i + 60]) / 60 for i in range(len(needs) - 60))
    assert max(numbers(found)) >= math.ceil(highest / 0.7 / 1.1)
    turns = [1 for a, b, c in zip(moves, moves[1:], moves[2:], strict=False) if (b - a) * (c - b) < 0]
    assert len(turns) <= 1, f"it goes up and down with the day, not with each second: {moves}"
    assert numbers(found)[-1] <= 2
