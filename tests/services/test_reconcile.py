"""The reconciler on a real database with a target and a router of memory, stepped by hand and as a loop."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from argosy.errors import GatewayFailed, InvalidOption, NotFound
from argosy.services import reconcile as reconcile_module
from argosy.services import tended as tended_module
from argosy.services.reconcile import ServiceRoute
from services.fakes import Services


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the time on which back-off and steadiness go."""
    now = [1000.0]

    def forward(seconds: float) -> None:
        now[0] += seconds

    class Time:
        monotonic = staticmethod(lambda: now[0])

    monkeypatch.setattr(tended_module, "time", Time)
    monkeypatch.setattr(reconcile_module, "time", Time)
    return forward


def crash(services: Services, *names: str, reason: str = "killed", deterministic: bool = False) -> None:
    for name in names or list(services.target.replicas):
        services.target.change(name, state="gone", failure=reason, deterministic=deterministic)


def test_a_first_deploy(services: Services) -> None:
    services.create(replicas=2)
    assert services.condition() == ("deploying", "revision 1: 0 of 2 replicas ready")
    services.step()
    assert services.target.pushes == [("iris", 1, 2)], "settings lie there before the first replica starts"
    assert services.target.states() == [(1, "starting")] * 2
    services.settle()
    assert services.condition() == ("healthy", "2 of 2 replicas ready")
    assert services.router.servers() == sorted(services.target.replicas)
    assert services.revisions() == {1: "live"}


def test_an_update_shifts_and_then_drains(services: Services) -> None:
    services.create(replicas=2)
    services.settle()
    old = set(services.target.replicas)
    services.new_image()
    before = len(services.router.applied)
    services.settle()
    assert services.target.states() == [(2, "ready")] * 2
    assert services.revisions() == {1: "stopped", 2: "live"}
    assert set(services.target.drained) == old
    assert all(applied["iris"] for applied in services.router.applied[before:]), "never without a server"


def test_a_busy_replica_is_not_drained(services: Services) -> None:
    services.create(replicas=2)
    services.settle()
    victim = services.router.servers()[1]
    services.router.busy[victim] = 1
    services.update(replicas=1)
    services.steps(5)
    assert services.router.servers() == [victim.replace("r002", "r001")]
    assert services.target.drained == []
    assert services.step() == 1.0, "it is looked at again soon"
    services.router.busy.clear()
    services.settle()
    assert services.target.drained == [victim]


def test_scaled_to_none_then_updated(services: Services) -> None:
    services.create()
    services.settle()
    services.update(replicas=0)
    services.settle()
    assert services.condition() == ("stopped", "scaled to 0 replicas")
    services.new_image()
    services.settle()
    assert services.revisions() == {1: "stopped", 2: "live"}, "proven on one replica"
    assert services.target.replicas == {}
    services.update(replicas=1)
    assert services.condition()[0] == "deploying"
    services.settle()
    assert services.target.states() == [(2, "ready")]


def test_a_failed_rollout_keeps_the_old_and_tells_why(services: Services) -> None:
    services.create()
    services.settle()
    services.new_image()
    services.step()
    new = next(r.id for r in services.target.observe("iris") if r.revision == 2)
    crash(services, new, reason="init() raised", deterministic=True)
    services.settle()
    assert services.revisions() == {1: "live", 2: "failed"}
    assert services.condition() == ("healthy", "1 of 1 replicas ready")
    assert services.reconciler.failure("iris") == ("init() raised", [f"log of {new}"])
    assert services.target.states() == [(1, "ready")]


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


def test_a_rollback_while_rolling_out(services: Services) -> None:
    services.create()
    services.settle()
    services.new_image()
    services.step()
    services.registry.roll_back("iris", 1)
    services.reconciler.wake("iris")
    services.settle()
    assert services.revisions() == {1: "live", 2: "stopped"}
    assert services.target.states() == [(1, "ready")]
    assert services.condition()[0] == "healthy"


def test_rollback_to_an_earlier_revision(services: Services) -> None:
    services.create()
    services.settle()
    services.new_image()
    services.settle()
    services.registry.roll_back("iris", 1)
    services.reconciler.wake("iris")
    services.settle()
    assert services.revisions() == {1: "live", 2: "stopped"}


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


def test_deleting_drains_and_removes_everything(services: Services) -> None:
    services.create(replicas=2)
    services.settle()
    services.new_image()
    services.step()
    services.registry.mark_deleting("iris")
    services.reconciler.wake("iris")
    services.steps(12)
    assert services.registry.names() == []
    assert services.target.removed == ["iris"]
    assert services.router.routes == {}
    assert services.target.replicas == {}
    services.create()
    services.settle()
    assert services.condition()[0] == "healthy", "the name is free again"


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


def test_replicas_of_a_service_nobody_knows_are_ended(services: Services) -> None:
    services.create()
    services.settle()
    services.registry.remove("iris")
    again = services.new_reconciler()
    assert again.adopt() == {}
    services.steps(6)
    assert services.target.replicas == {}
    assert services.registry.names() == []


def test_adoption_routes_what_is_ready_at_once(services: Services) -> None:
    services.create(replicas=2)
    services.settle()
    services.new_image()
    services.step()
    launched = len(services.launched)
    routes = services.new_reconciler().adopt()
    assert [name for name, _ in routes["iris"].servers] == services.router.servers()
    services.settle()
    assert services.revisions() == {1: "stopped", 2: "live"}, "the rollout goes on"
    assert len(services.launched) == launched, "and nothing is started twice"


def test_one_service_that_cannot_be_read_keeps_no_other_from_being_adopted(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("broken", "iris"):
        services.create(name)
        services.settle(name)
    with services.shelf.database.write() as connection:
        connection.exec_driver_sql("UPDATE services SET settings = '[1, 2]' WHERE name = 'broken'")
    routes = services.new_reconciler().adopt()
    assert set(routes) == {"iris"}
    assert "broken" in caplog.text
    services.settle("iris")


def test_settings_are_pushed_until_every_replica_confirms(services: Services) -> None:
    services.create(replicas=2)
    services.settle()
    deaf = services.router.servers()[0]
    services.target.deaf.add(deaf)
    services.update(changes={"max_queued_requests": 1})
    pushes = len(services.target.pushes)
    assert [services.step() for _ in range(3)] == [1.0, 1.0, 1.0]
    assert len(services.target.pushes) == pushes + 3
    services.target.deaf.clear()
    services.settle()
    assert services.step() == reconcile_module._CALM_TICK_S
    assert len(services.target.pushes) == pushes + 4


def test_an_old_key_ends_when_all_have_confirmed_the_new_one(services: Services) -> None:
    services.create(replicas=2)
    services.settle()
    deaf = services.router.servers()[0]
    services.target.deaf.add(deaf)
    services.keyring.regenerate("iris", "primary")
    services.reconciler.push_settings("iris")
    services.steps(3)
    assert services.keyring.settling("iris")
    assert len(services.target.settings["iris"]["keys"]) == 3
    services.target.deaf.clear()
    services.step()
    assert not services.keyring.settling("iris")
    assert len(services.target.settings["iris"]["keys"]) == 2


def test_a_calm_service_is_left_alone(services: Services) -> None:
    services.create(replicas=3)
    services.settle()
    pushes, applied, launched = len(services.target.pushes), len(services.router.applied), len(services.launched)
    assert [services.step() for _ in range(5)] == [reconcile_module._CALM_TICK_S] * 5
    assert (len(services.target.pushes), len(services.router.applied), len(services.launched)) == (
        pushes, applied, launched,
    )  # fmt: skip


def test_routes_hold_the_guard_of_the_gateway(services: Services) -> None:
    services.create(max_concurrent_requests=3, max_queued_requests=7, request_timeout_ms=1234)
    services.settle()
    route = services.router.routes["iris"]
    assert (route.timeout_ms, route.max_connections) == (1234, 4 * (3 + 7) + 64)


# -- as a loop ---------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    task = asyncio.create_task(services.reconciler.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile_module, "_CHANGING_TICK_S", 0.005)
    monkeypatch.setattr(reconcile_module, "_TICK_S", 0.02)
    monkeypatch.setattr(reconcile_module, "_WATCH_EVERY_S", 0.02)


@pytest.mark.usefixtures("quick")
def test_many_services_at_once_end_with_one_right_table(services: Services) -> None:
    """Tables are applied in the order in which they were made: no older one overtakes a newer one."""
    names = [f"s{number}" for number in range(12)]
    apply = services.router.apply

    def slow(routes: Mapping[str, ServiceRoute]) -> None:
        time.sleep(0.001 * (len(services.router.applied) % 3))
        apply(routes)

    services.router.apply = slow  # type: ignore[method-assign]

    async def life() -> None:
        async with running(services):
            for name in names:
                await asyncio.to_thread(services.create, name, 2)

            def healthy() -> bool:
                services.target.time_passes()
                return all(services.condition(name)[0] == "healthy" for name in names)

            await until(healthy)

    asyncio.run(life())
    assert {name: len(route.servers) for name, route in services.router.routes.items()} == dict.fromkeys(names, 2)


@pytest.mark.usefixtures("quick")
def test_the_end_of_a_replica_wakes_a_calm_service(services: Services) -> None:
    services.create()
    services.settle()

    async def life() -> None:
        async with running(services):
            await until(lambda: services.reconciler._tasks)
            await asyncio.sleep(0.1)
            crash(services)
            await until(lambda: services.target.states() == [(1, "starting")])

    asyncio.run(life())


@pytest.mark.usefixtures("quick")
def test_a_service_deleted_and_made_again_is_tended(services: Services) -> None:
    services.create()
    services.settle()

    async def life() -> None:
        async with running(services):
            for _ in range(3):
                services.registry.mark_deleting("iris")
                services.reconciler.wake("iris")

                def gone() -> bool:
                    services.target.time_passes()
                    return "iris" not in services.registry.names()

                await until(gone)
                await asyncio.to_thread(services.create)

                def healthy() -> bool:
                    services.target.time_passes()
                    return services.condition()[0] == "healthy"

                await until(healthy)

    asyncio.run(life())


def test_what_starts_while_the_control_plane_ends_is_ended(services: Services) -> None:
    launching, go_on = threading.Event(), threading.Event()
    launch = services._launch

    def slow(service: str, revision: int) -> object:
        launching.set()
        assert go_on.wait(30)
        return launch(service, revision)

    services.reconciler._launch = slow  # type: ignore[assignment]
    services.create()

    async def life() -> None:
        async with running(services):
            await asyncio.to_thread(launching.wait, 30)
        go_on.set()
        await until(lambda: services.target.killed)

    asyncio.run(life())
    assert services.target.states() == [(1, "gone")]


def test_settings_of_a_service_that_is_gone(services: Services) -> None:
    with pytest.raises(NotFound):
        services.reconciler.push_settings("nobody")


def test_the_router_sees_every_renewal_in_order(services: Services) -> None:
    services.create()
    services.settle()
    seen: list[str] = []
    services.reconciler.renew_routes(lambda routes: seen.append(json.dumps(sorted(routes))))
    assert seen == ['["iris"]']
