"""From curves to limits."""

import pytest

from argosy.services.tuning import Curve, Point, best_slots, more_slots_help, propose


def curve(slots: int, batch: int, *points: tuple[int, float, float], cores: float = 1.0) -> Curve:
    return Curve(slots, batch, [Point(clients, rate, p99 / 2, p99, cores) for clients, rate, p99 in points])


# A model that computes with the GIL held: more callers only wait longer, more slots bring nothing.
BUSY = [
    curve(1, 1, (1, 900, 1.2), (2, 1000, 2.1), (4, 1010, 4.2), (8, 1005, 9)),
    curve(2, 1, (1, 880, 1.3), (2, 990, 2.4), (4, 1000, 5)),
]
# A model that waits for something else, 50 ms: n slots answer n times as much.
WAITING = [
    curve(slots, 1, *((n, min(n, slots) * 20.0, 51.0 * max(1, n / slots)) for n in (1, 2, 4, 8, 16)), cores=0.02)
    for slots in (1, 2, 4)
]


def test_the_knee_is_where_more_callers_only_wait_longer() -> None:
    assert BUSY[0].knee is not None and BUSY[0].knee.clients == 1
    assert WAITING[2].knee is not None and WAITING[2].knee.clients == 4


def test_slots_are_added_while_they_help() -> None:
    assert more_slots_help([])
    assert more_slots_help(BUSY[:1])
    assert not more_slots_help(BUSY)
    assert more_slots_help(WAITING)
    assert (best_slots(BUSY).slots, best_slots(WAITING).slots) == (1, 4)


def test_a_busy_model_gets_one_slot_and_a_replica_for_each_core() -> None:
    proposal = propose(BUSY, 500, cores=4, wanted_rate=None)
    assert (proposal.max_concurrent_requests, proposal.max_batch_size) == (1, 1)
    assert proposal.replicas == 4
    assert proposal.max_queued_requests == 450, "what is answered in half a second"
    assert proposal.rate == pytest.approx(4 * 900 * 0.7)
    assert "2 answer 0.99 x as much" in proposal.reasons[0]


def test_a_waiting_model_gets_slots() -> None:
    proposal = propose(WAITING, 500, cores=2, wanted_rate=200)
    assert proposal.max_concurrent_requests == 4
    assert proposal.max_queued_requests == 40
    assert proposal.replicas == 4, "200/s at 70 % of 80/s each"


def test_batches_must_pay() -> None:
    worth = curve(1, 32, (1, 850, 1.3), (32, 9000, 6))
    idle = curve(1, 32, (1, 850, 1.3), (32, 1100, 40))
    assert propose([*BUSY, worth], 500, 2, None).max_batch_size == 32
    assert propose([*BUSY, idle], 500, 2, None).max_batch_size == 1


@pytest.mark.parametrize("points", [[], [Point(32, 9000, 3, 6, 1)]])
def test_what_could_not_work_is_not_proposed_and_says_why(points: list[Point]) -> None:
    unable = propose([*BUSY, Curve(1, 32, points, able=False, reason="run() is async")], 500, 2, None)
    assert unable.max_batch_size == 1
    assert unable.reasons[1] == "no batches: run() is async"
    slots = [*WAITING[:2], Curve(4, 1, points, able=False, reason="no room")]
    assert (best_slots(slots).slots, propose(slots, 500, 2, None).max_concurrent_requests) == (2, 2)
    assert "no 4, no room" in propose(slots, 500, 2, None).reasons[0]
    assert not more_slots_help([*WAITING[:2], Curve(4, 1, able=False)])
    assert Curve(4, 1, able=False).knee is None


def test_what_the_machine_cannot_carry_is_said() -> None:
    proposal = propose(BUSY, 500, cores=2, wanted_rate=5000)
    assert proposal.replicas == 8
    assert "but 2 cores carry 2" in proposal.reasons[-1]


def test_bounds() -> None:
    fast = [curve(1, 1, (1, 50_000, 0.1), cores=0.001)]
    assert propose(fast, 10_000, 2, None).max_queued_requests == 1000
    slow = [curve(1, 1, (1, 0.5, 2000))]
    assert propose(slow, 500, 2, None).max_queued_requests == 1
