"""What the reconciler makes of crashes, full disks, gateways that do not run, and defects."""

from collections.abc import Callable

import pytest

from argosy.errors import GatewayFailed, InvalidOption
from argosy.services import reconcile as reconcile_module
from services.fakes import Services, crash


def test_a_failed_rollout_does_not_slow_down_the_live_revision(
    services: Services, clock: Callable[[float], None]
) -> None:
    services.create(replicas=4)
    services.settle()
    services.new_image()
    services.step()
    crash(services, *(r.id for r in services.target.observe("iris") if r.revision == 2), deterministic=True)
    services.settle()
    crash(services, services.router.servers()[0])
    services.step()
    assert services.target.states().count((1, "starting")) == 1, "at once"


def test_a_rollback_starts_with_a_clean_slate(services: Services, clock: Callable[[float], None]) -> None:
    services.create()
    services.settle()
    for _ in range(4):
        crash(services)
        services.step()
        clock(70)
        services.settle()
    services.new_image()
    services.settle()
    services.registry.roll_back("iris", 1)
    services.reconciler.wake("iris")
    services.step()
    crash(services, *(r.id for r in services.target.observe("iris") if r.revision == 1))
    services.settle()
    assert services.revisions() == {1: "live", 2: "stopped"}, "what was lost long ago does not count"


def test_crashes_back_off(services: Services, clock: Callable[[float], None]) -> None:
    services.create()
    services.settle()
    starts = []
    for _ in range(6):
        crash(services)
        services.step()
        waited = 0.0
        while not services.target.replicas:
            clock(0.5)
            waited += 0.5
            services.step()
        starts.append(waited)
        services.settle()
    assert starts == sorted(starts)
    assert starts[0] == 0.0 and starts[-1] >= 7.0
    state, reason = services.condition()
    assert (state, reason) == ("healthy", "1 of 1 replicas ready")


def test_many_that_end_at_once_count_once(services: Services, clock: Callable[[float], None]) -> None:
    services.create(replicas=5)
    services.settle()
    for wait_s in (0, 1):
        crash(services)
        services.step()
        clock(wait_s)
        services.step()
        assert len(services.target.replicas) == 5, "a machine that killed all of them is no crash loop of five"
        services.settle()


def test_a_steady_minute_forgives(services: Services, clock: Callable[[float], None]) -> None:
    services.create()
    services.settle()
    for _ in range(5):
        crash(services)
        services.step()
        clock(61)
        services.settle()
    clock(61)
    assert services.step() == reconcile_module._CALM_TICK_S
    assert services.reconciler.failure("iris") == ("", [])
    crash(services)
    services.step()
    assert services.target.states() == [(1, "starting")]


def test_a_change_does_not_wait_for_the_back_off(services: Services, clock: Callable[[float], None]) -> None:
    services.create()
    services.settle()
    for _ in range(6):
        crash(services)
        services.step()
        clock(61)
        services.settle()
        crash(services)
        services.step()
    assert services.condition()[0] == "failed"
    services.update(replicas=1)
    assert services.condition() == ("deploying", "0 of 1 replicas ready, the others start"), "no reason of yesterday"
    services.step()
    assert services.target.states() == [(1, "starting")]


def test_a_launch_that_fails_fails_the_rollout_with_its_reason(services: Services) -> None:
    services.launch_fails[1] = InvalidOption("secret TOKEN", "env:TOKEN", "there is no such variable")
    services.create(replicas=3)
    services.settle()
    assert services.revisions() == {1: "failed"}
    assert "secret TOKEN" in services.registry.revision("iris", 1).reason
    assert services.condition()[0] == "failed"
    assert services.launched == [("iris", 1)], "not once for every replica"


def test_a_defect_in_a_launch_is_no_endless_rollout(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    services.create()
    services.settle()
    services.launch_fails[2] = RuntimeError("surprise")
    services.new_image()
    services.settle()
    assert services.revisions() == {1: "live", 2: "failed"}
    assert "surprise" in services.registry.revision("iris", 2).reason
    assert "Traceback" in caplog.text


def test_a_live_revision_that_cannot_be_launched_is_tried_again(
    services: Services, clock: Callable[[float], None]
) -> None:
    services.create(replicas=3)
    services.settle()
    services.launch_fails[1] = InvalidOption("secret TOKEN", "env:TOKEN", "there is no such variable")
    crash(services)
    services.step()
    launched = len(services.launched)
    state, reason = services.condition()
    assert state == "failed" and "secret TOKEN" in reason
    for _ in range(20):
        clock(1)
        services.step()
    assert launched < len(services.launched) <= launched + 6, "with pauses"
    services.launch_fails.clear()
    clock(61)
    services.settle()
    assert services.condition()[0] == "healthy"


def test_a_full_disk_stops_nothing_that_runs(services: Services) -> None:
    services.create(replicas=2)
    services.settle()
    services.registry.update("iris", changes={"max_queued_requests": 1})
    services.target.disk_full = True
    services.reconciler.wake("iris")
    crash(services, services.router.servers()[0])
    services.steps(3)
    assert len(services.router.servers()) == 1, "the dead one is out of the route"
    state, reason = services.condition()
    assert state == "degraded" and "disk is full" in reason
    services.target.disk_full = False
    services.settle()
    assert services.condition()[0] == "healthy"
    assert services.target.settings["iris"]["max_queued_requests"] == 1


def test_nothing_starts_without_its_settings(services: Services) -> None:
    services.target.disk_full = True
    services.create()
    services.steps(3)
    assert services.launched == []
    state, reason = services.condition()
    assert state == "deploying" and "disk is full" in reason
    services.target.disk_full = False
    services.settle()
    assert services.condition()[0] == "healthy"


def test_a_gateway_that_fails_is_waited_for(services: Services) -> None:
    services.create()
    services.router.broken = True
    services.steps(5)
    state, reason = services.condition()
    assert state == "deploying" and "gateway does not run" in reason
    assert services.revisions() == {1: "starting"}, "not live before it is routed"
    services.router.broken = False
    services.settle()
    assert services.condition() == ("healthy", "1 of 1 replicas ready")
    assert services.reconciler.failure("iris") == ("", []), "and nothing remains of it"


def test_a_route_that_could_not_be_set_is_not_believed(services: Services) -> None:
    services.create()
    services.settle()
    services.router.broken = True
    services.update(replicas=0)
    services.steps(3)
    assert services.target.drained == [], "the gateway may still send there"
    services.router.broken = False
    services.settle()
    assert services.target.replicas == {}


def test_a_defect_ends_no_loop(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    services.create()
    services.settle()
    services.target.defect = RuntimeError("surprise")
    assert services.step() == 1.0
    assert "surprise" in caplog.text
    state, reason = services.condition()
    assert state == "degraded" and "defect" in reason
    services.target.defect = None
    services.step()
    assert services.condition()[0] == "healthy"


@pytest.mark.parametrize("fault", ["gateway", "database"])
def test_a_deletion_that_meets_a_fault_is_finished_later(
    services: Services, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    services.create()
    services.settle()
    services.registry.mark_deleting("iris")
    services.reconciler.wake("iris")
    for _ in range(20):
        services.target.time_passes()
        if not services.target.replicas:
            break
        services.step()
    with monkeypatch.context() as broken:
        if fault == "gateway":
            services.router.broken = True
        else:
            broken.setattr(services.registry, "remove", lambda name: (_ for _ in ()).throw(GatewayFailed("full")))
        services.steps(3)
    assert services.registry.names() == ["iris"]
    services.router.broken = False
    services.steps(3)
    assert services.registry.names() == []


def test_one_service_that_cannot_be_read_keeps_no_other_from_being_adopted(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("broken", "iris"):
        services.create(name)
        services.settle(name)
    with services.shelf.database.write() as connection:
        connection.exec_driver_sql("UPDATE services SET settings = '[1, 2]' WHERE name = 'broken'")
    routes = services.new_reconciler().adopt()
    assert set(routes) == {"broken", "iris"}, "and what runs of it keeps its requests"
    assert "broken" in caplog.text
    services.settle("iris")
