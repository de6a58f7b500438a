"""The autoscaler on a real database: what it samples, writes, keeps apart from the user's own number, and explains."""

from typing import Any

import pytest

from argosy.environments.target import Load
from argosy.errors import Conflict, InvalidOption
from services.fakes import Services

AUTO: dict[str, Any] = {"autoscale_enabled": True}


def busy(services: Services, requests: int, name: str = "iris") -> None:
    """So many requests at work or waiting, spread over the ready replicas. Seen by the gateway too."""
    counted = services.traffic.setdefault(name, {"requests": 0, "sessions": 0, "queued": 0})
    counted["requests"] += 1
    counted["sessions"] = requests
    replicas = [r.id for r in services.target.observe(name) if r.state == "ready"]
    for place, replica in enumerate(replicas):
        mine = len(range(place, requests, len(replicas)))
        services.target.loads[replica] = Load(replica, busy=min(1, mine), queued=max(0, mine - 1))


def test_up_with_the_load_and_down_when_it_is_gone(services: Services) -> None:
    services.create(**AUTO)
    services.settle()
    assert services.registry.get("iris").wanted == 1
    for _ in range(12):
        busy(services, 4)
        services.seconds(1)
    assert services.registry.get("iris").wanted == 6
    assert len(services.router.servers()) == 6
    services.target.loads.clear()
    services.traffic["iris"]["sessions"] = 0
    services.seconds(55)
    assert services.registry.get("iris").wanted == 6, "a minute of need is remembered"
    services.seconds(20)
    assert services.registry.get("iris").wanted == 1
    assert len(services.router.servers()) == 1


def test_decisions_are_kept_with_their_reasons(services: Services) -> None:
    services.create(**AUTO)
    services.settle()
    for _ in range(30):
        busy(services, 4)
        services.seconds(1)
    found = services.autoscaler.decisions("iris")
    assert [(d.before, d.replicas) for d in reversed(found) if d.before != d.replicas] == [(1, 2), (2, 4), (4, 6)]
    assert len(found) < 10, "those that change nothing in a row are one"
    assert all("requests at work or waiting" in d.reason for d in found)
    assert (found[-1].raw, found[-1].limit, found[-1].target) == (6, "step", 70)


def test_the_users_number_is_kept_apart(services: Services) -> None:
    before = services.create(replicas=3)
    services.settle()
    services.update(changes=AUTO | {"max_replicas": 8})
    on = services.registry.get("iris")
    assert (on.replicas, on.scaled, on.wanted) == (3, 3, 3)
    assert services.registry.rescale("iris", 5)
    scaled = services.registry.get("iris")
    assert (scaled.replicas, scaled.wanted) == (3, 5)
    assert (scaled.etag, scaled.updated_at) == (on.etag, on.updated_at), "nobody has changed it"
    assert before.etag != on.etag
    services.update(changes={"max_replicas": 4})
    assert services.registry.get("iris").wanted == 4
    services.update(changes={"autoscale_enabled": False})
    off = services.registry.get("iris")
    assert (off.replicas, off.scaled, off.wanted) == (4, None, 4), "it stays at what it has"
    assert not services.registry.rescale("iris", 1), "turned off meanwhile"
    services.update(replicas=2)
    assert services.registry.get("iris").wanted == 2


def test_a_manual_number_needs_it_off(services: Services) -> None:
    services.create(**AUTO)
    with pytest.raises(Conflict, match="--autoscale-enabled false -z 5"):
        services.update(replicas=5)
    services.update(replicas=5, changes={"autoscale_enabled": False})
    assert services.registry.get("iris").wanted == 5


@pytest.mark.parametrize(("given", "left"), [(None, 1), (0, 0)])
def test_one_that_sleeps_is_not_stopped_when_it_is_turned_off(services: Services, given: int | None, left: int) -> None:
    services.create(**AUTO, min_replicas=0)
    services.settle()
    assert services.registry.rescale("iris", 0)
    services.update(replicas=given, changes={"autoscale_enabled": False})
    assert services.registry.get("iris").wanted == left


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"min_replicas": 11}, "min_replicas"), ({"max_replicas": 0}, "max_replicas"), ({"target_utilization": 0}, "1"),
     ({"refresh_period_s": 0.5}, "refresh_period_s"), ({"scale_down_delay_s": 0}, "scale_down_delay_s"),
     ({"autoscale_enabled": 1}, "autoscale_enabled"), ({"min_replicas": 4, "max_replicas": 3}, "above max_replicas")],
)  # fmt: skip
def test_limits_that_cannot_be(services: Services, changes: dict[str, object], named: str) -> None:
    services.create()
    with pytest.raises(InvalidOption, match=named):
        services.update(changes=changes)


def test_an_idle_service_is_not_asked(services: Services) -> None:
    services.create(**AUTO)
    services.settle()
    busy(services, 0)
    services.seconds(3)
    asked = services.target.asked
    services.seconds(20)
    assert services.target.asked == asked
    busy(services, 1)
    services.seconds(2)
    assert services.target.asked > asked


def test_one_that_rested_for_long_wakes_at_once(services: Services) -> None:
    """Nothing is decided for it meanwhile, and what is remembered is as if it had been."""
    services.create(**AUTO)
    services.settle()
    busy(services, 0)
    services.seconds(80)
    decided = services.autoscaler.decisions("iris")[0].at
    services.seconds(100)
    assert services.autoscaler.decisions("iris")[0].at == decided
    busy(services, 1)
    services.seconds(2)
    assert services.registry.get("iris").wanted == 1, "one request after a quiet hour is no reason for two"
    for _ in range(8):
        busy(services, 6)
        services.seconds(1)
    assert services.registry.get("iris").wanted > 2
    services.traffic["iris"]["sessions"] = 0
    services.target.loads.clear()
    services.seconds(200)
    assert services.registry.get("iris").wanted == 1


def test_without_counters_replicas_are_asked(services: Services) -> None:
    services.create(**AUTO)
    services.settle()
    services.target.loads = {r: Load(r, busy=1, queued=3) for r in services.target.replicas}
    services.seconds(1)
    assert services.registry.get("iris").wanted == 2


def test_shed_requests_are_need_and_a_silent_replica_is_busy(services: Services) -> None:
    services.create(**AUTO, max_queued_requests=0)
    services.settle()
    (replica,) = services.target.replicas
    for second in range(8):
        services.target.loads = {replica: Load(replica, busy=1, refused=100 * second, run_s=0.05)}
        services.seconds(1)
    newest = services.autoscaler.decisions("iris")[0]
    assert newest.raw == 8 or newest.raw == 9, "100 a second at 50 ms are 5 more at work"
    services.target.loads = {replica: Load(replica, silent=True)}
    services.seconds(1)
    assert services.registry.get("iris").wanted >= 2


def test_a_replica_that_batches_has_more_room(services: Services) -> None:
    services.create(**AUTO)
    services.settle()
    (replica,) = services.target.replicas
    services.target.loads = {replica: Load(replica, busy=4, capacity=8)}
    services.seconds(10)
    newest = services.autoscaler.decisions("iris")[0]
    assert (newest.replicas, newest.utilization) == (1, 50.0)


def test_services_share_the_machine(services: Services) -> None:
    names = ("a", "b", "c")
    for name in names:
        services.create(name, **AUTO)
        services.settle(name)
    services.create("manual", replicas=2)
    services.settle("manual")
    services.new_autoscaler(cores=2.0)
    for _ in range(15):
        for name, need in zip(names, (6, 6, 1), strict=True):
            busy(services, need, name)
        services.seconds(1, *names, "manual")
    wanted = {name: services.registry.get(name).wanted for name in (*names, "manual")}
    assert wanted == {"a": 2, "b": 2, "c": 2, "manual": 2}
    newest = services.autoscaler.decisions("a")[0]
    assert newest.limit == "share"
    assert newest.reason.startswith("wants 4, gets 2: 4 services want")
    assert "of the machine's 2 cores (0.25 a replica)" in newest.reason


def test_to_zero_and_back_with_a_held_request(services: Services) -> None:
    services.create(**AUTO, min_replicas=0, scale_down_delay_s=10)
    services.settle()
    busy(services, 0)
    services.seconds(8)
    assert services.registry.get("iris").wanted == 1, "ten seconds of no need are not over"
    services.seconds(6)
    assert services.target.replicas == {}
    assert services.condition() == ("healthy", "scaled to zero, the next request starts a replica")
    services.autoscaler.hold("iris")
    assert services.registry.get("iris").wanted == 1
    assert services.autoscaler.decisions("iris")[0].limit == "wake"
    services.seconds(30)
    assert len(services.router.servers()) == 2, "held requests keep it awake: one of one slot is more than 70 %"
    services.autoscaler.release("iris")
    services.seconds(20)
    assert services.target.replicas == {}


def test_zero_set_by_hand_stays_zero(services: Services) -> None:
    services.create(replicas=0)
    services.settle()
    services.autoscaler.hold("iris")
    services.seconds(5)
    assert services.registry.get("iris").wanted == 0
    assert services.condition()[0] == "stopped"


def test_after_a_restart_nothing_is_taken_for_idle(services: Services) -> None:
    services.create(**AUTO)
    services.settle()
    services.registry.rescale("iris", 4)
    services.reconciler.look("iris")
    services.settle()
    services.new_reconciler().adopt()
    services.new_autoscaler()
    services.seconds(55)
    assert services.registry.get("iris").wanted == 4
    services.seconds(20)
    assert services.registry.get("iris").wanted == 1


def test_a_replica_that_answers_in_batches_has_room_for_more(services: Services) -> None:
    services.create(**AUTO)
    services.settle()
    for second in range(20):
        services.traffic["iris"] = {"requests": second, "sessions": 16, "queued": 0}
        services.target.loads = {r: Load(r, busy=16, capacity=32) for r in services.target.replicas}
        services.seconds(1)
    assert services.registry.get("iris").wanted == 1, "16 of 32 are half"
