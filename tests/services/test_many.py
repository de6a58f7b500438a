"""Many services at once: starts are bounded, and the gateway gets few tables."""

import asyncio
import threading
import time
from collections.abc import Mapping

import pytest

from argosy.errors import GatewayFailed
from argosy.services.routes import RouteTable, ServiceRoute
from argosy.services.starts import Starts
from argosy.services.tended import Tended
from services.fakes import Services
from services.test_reconcile_loop import running, until


@pytest.fixture
def bounded(services: Services) -> Services:
    services.starts_at_once = 6
    services.new_reconciler()
    return services


def starting(services: Services) -> int:
    return sum(1 for replica in services.target.replicas.values() if replica.state == "starting")


def test_a_hundred_services_of_two_replicas(bounded: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than six start at once, all become ready, and the tables are far fewer than the replicas."""
    monkeypatch.setattr("argosy.services.reconcile._CHANGING_TICK_S", 0.01)
    names = [f"s{number}" for number in range(100)]
    for name in names:
        bounded.create(name, 2)
    most = [0]
    apply, start = bounded.router.apply, bounded.target.start

    def slow(routes: Mapping[str, ServiceRoute]) -> None:
        time.sleep(0.01)
        apply(routes)

    def counted(launch: object) -> str:
        name = start(launch)  # type: ignore[arg-type]
        most[0] = max(most[0], starting(bounded))
        return name

    bounded.router.apply = slow  # type: ignore[method-assign]
    bounded.target.start = counted  # type: ignore[method-assign]

    async def life() -> None:
        async with running(bounded):
            for name in names:
                bounded.reconciler.wake(name)

            def healthy() -> bool:
                bounded.target.time_passes()
                return all(bounded.condition(name)[0] == "healthy" for name in names)

            await until(healthy)

    asyncio.run(life())
    assert 1 < most[0] <= 6
    assert {name: len(route.servers) for name, route in bounded.router.routes.items()} == dict.fromkeys(names, 2)
    assert len(bounded.router.applied) < 200, "200 replicas became ready, and 100 services were announced"


def test_replicas_that_are_ready_together_are_one_table(services: Services) -> None:
    services.create(replicas=50)
    services.settle()
    assert len(services.router.applied) <= 3
    services.update(replicas=10)
    before = len(services.router.applied)
    services.settle()
    assert len(services.router.applied) == before + 1
    assert len(services.router.servers()) == 10


def test_a_place_is_given_back() -> None:
    now = [0.0]
    starts = Starts(2, lambda: now[0])
    for service in ("a", "b"):
        assert starts.begin(service)
        starts.began(service, f"{service}-1")
    assert not starts.begin("c") and not starts.begin("d")
    assert starts.settle("a", {"a-1"}) == []
    assert starts.settle("a", set()) == ["c"], "one place, one service"
    assert starts.begin("c")
    starts.failed()
    assert starts.begin("d")
    starts.began("d", "d-1")
    assert not starts.begin("e")
    now[0] = 20
    assert starts.begin("e"), "those that load for long do not block the others"


def test_changes_that_come_together_go_together() -> None:
    seen: list[int] = []
    gate, first = threading.Event(), threading.Event()
    states = [Tended() for _ in range(20)]

    class Router:
        broken = False

        def apply(self, routes: Mapping[str, ServiceRoute]) -> None:
            seen.append(sum(1 for state in states if state.routed))
            first.set()
            gate.wait(10)
            if self.broken:
                raise GatewayFailed("It does not obey.")

        def in_use(self, service: str, replica: str) -> int:
            return 0

    router = Router()
    table = RouteTable(router, dict)
    threads = [threading.Thread(target=table.change, args=(state, {"r": "a"})) for state in states]
    threads[0].start()
    assert first.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(table._waiting) < 19:
        time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join()
    assert seen == [1, 20]
    router.broken = True
    with pytest.raises(GatewayFailed):
        table.change(states[0], {})
    assert states[0].routed == {"r": "a"}, "what the gateway does not have is not believed"


def test_one_that_cannot_be_routed_keeps_no_other_from_it() -> None:
    states = [Tended() for _ in range(5)]

    class Router:
        def apply(self, routes: Mapping[str, ServiceRoute]) -> None:
            if states[2].routed:
                raise GatewayFailed("It cannot take the third.")

        def in_use(self, service: str, replica: str) -> int:
            return 0

    table = RouteTable(Router(), dict)
    problems: list[Exception] = []

    def change(state: Tended) -> None:
        try:
            table.change(state, {"r": "a"})
        except GatewayFailed as problem:
            problems.append(problem)

    threads = [threading.Thread(target=change, args=(state,)) for state in states]
    with table.guard:
        for thread in threads:
            thread.start()
        while len(table._waiting) < 5:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert [bool(state.routed) for state in states] == [True, True, False, True, True]
    assert len(problems) == 1
