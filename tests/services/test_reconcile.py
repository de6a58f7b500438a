"""The reconciler on a real database with a target and a router of memory: deploys, rollouts, settings, adoption."""

import dataclasses

import pytest

from argosy.errors import StorageFailed
from argosy.services import reconcile as reconcile_module
from argosy.services.stored import Stored
from services.fakes import Services, crash


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
    # They work in batches, and say so later than that they are ready: one that holds the interpreter is silent.
    for name, replica in services.target.replicas.items():
        services.target.replicas[name] = dataclasses.replace(replica, capacity=3 * 32)
    services.step()
    assert services.router.routes["iris"].max_connections == 4 * (3 * 32 + 7) + 64


def test_a_service_whose_row_cannot_be_read_is_left_alone(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not known is not deleted: its replicas stay, and take requests from the first moment of the next start on."""
    services.create()
    services.settle()
    serving = services.router.servers()

    def fails(name: str) -> Stored:
        raise StorageFailed("the database is locked")

    with monkeypatch.context() as broken:
        broken.setattr(services.registry, "get", fails)
        routes = services.new_reconciler().adopt()
        assert [replica for replica, _ in routes["iris"].servers] == serving
        services.steps(3)
    services.settle()
    assert services.router.servers() == serving
    assert services.target.drained == []
    assert services.registry.names() == ["iris"]


def test_the_gateway_knows_a_service_before_its_first_replica_is_ready(services: Services) -> None:
    services.create()
    services.step()
    assert services.target.states() == [(1, "starting")]
    assert list(services.router.applied[-1]["iris"]) == [], "so that callers get 503, not 404"
