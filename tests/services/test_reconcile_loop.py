"""The reconciler as a loop: one task a service, woken by changes and by the end of a replica."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from argosy.errors import NotFound
from argosy.services import reconcile as reconcile_module
from argosy.services.routes import ServiceRoute
from services.fakes import Services, crash


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
