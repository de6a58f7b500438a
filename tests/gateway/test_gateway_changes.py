"""The table changes under load: nobody loses a request."""

import asyncio
import os
from pathlib import Path

import pytest

from argosy.errors import Error, GatewayFailed
from argosy.gateway.gateway import Gateway
from argosy.gateway.master import Master
from argosy.gateway.routes import Route, Server
from argosy.settings import Home
from gateway.harness import Client, Load, MakeGateway, Replica, route, until


async def swap(gateway: Gateway, old: Replica, new: Replica, *others: Route) -> None:
    """As the reconciler does: new ready, added, old drained, none in use, stopped."""
    await asyncio.to_thread(gateway.apply, [route("iris", old, new), *others])
    await asyncio.to_thread(gateway.apply, [route("iris", new), *others])
    for _ in range(500):
        if not await asyncio.to_thread(gateway.in_use, "iris", old.name):
            break
        await asyncio.sleep(0.01)
    await old.stop()


def test_replicas_are_swapped_without_a_lost_request(gateway: Gateway, home: Home, folder: Path) -> None:
    async def scenario() -> None:
        replica = await Replica("r0", folder).start()
        gateway.apply([route("iris", replica)])
        load = await Load(gateway.port, "iris").start()
        for number in range(1, 13):
            new = await Replica(f"r{number}", folder).start()
            await swap(gateway, replica, new)
            replica = new
        await load.stop()
        assert load.failures == []
        assert load.answered > 100
        assert gateway.status()["retired_workers"] == 0
        # Departed servers are forgotten once their idle connections are closed.
        await until(lambda: servers_after_tidying(gateway, home) == ["r12"])
        await replica.stop()

    asyncio.run(scenario())


def servers_after_tidying(gateway: Gateway, home: Home) -> list[str]:
    gateway.tidy()
    master = Master(home.run / "master")
    return [server.name for server in master.servers(master.processes().workers[0])]


def test_services_come_and_go_without_a_lost_request(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris, other = await Replica("i", folder).start(), await Replica("o", folder).start()
        gateway.apply([route("iris", iris)])
        load = await Load(gateway.port, "iris").start()
        client = Client(gateway.port)
        for number in range(6):
            name = f"other-{number}"
            await asyncio.to_thread(gateway.apply, [route("iris", iris), route(name, other)])
            assert (await client.request(f"/api/v1/service/{name}/score")).status == 200
            await asyncio.to_thread(gateway.apply, [route("iris", iris)])
            assert (await client.request(f"/api/v1/service/{name}/score")).status == 404
        await load.stop()
        assert load.failures == []
        assert load.answered > 100
        counted = gateway.counters()
        assert list(counted) == ["iris"]
        await client.close()
        await iris.stop()
        await other.stop()

    asyncio.run(scenario())


def test_services_and_replicas_change_together_without_a_lost_request(gateway: Gateway, folder: Path) -> None:
    """Every reload retires a worker that knows only the replicas of its time."""

    async def scenario() -> None:
        replica, other = await Replica("r0", folder).start(), await Replica("o", folder).start()
        gateway.apply([route("iris", replica)])
        load = await Load(gateway.port, "iris").start()
        for number in range(1, 7):
            extra = [route(f"other-{number}", other)]
            new = await Replica(f"r{number}", folder).start()
            await swap(gateway, replica, new, *extra)
            replica = new
        await load.stop()
        assert load.failures == []
        assert load.answered > 100
        await replica.stop()
        await other.stop()

    asyncio.run(scenario())


def test_an_idle_connection_of_a_retired_worker_reaches_a_new_replica(
    gateway: Gateway, home: Home, folder: Path
) -> None:
    async def scenario() -> None:
        old, new = await Replica("old", folder).start(), await Replica("new", folder).start()
        gateway.apply([route("iris", old)])
        idle = Client(gateway.port)
        assert (await idle.request("/api/v1/service/iris/score")).json["replica"] == "old"
        gateway.apply([route("iris", old), route("another")])
        assert gateway.status()["retired_workers"] == 1
        await swap(gateway, old, new, route("another"))
        answer = await idle.request("/api/v1/service/iris/score", headers={"x-request-id": "kept"})
        assert answer.json["replica"] == "new"
        assert answer.headers["connection"] == "close"
        assert answer.headers["x-request-id"] == "kept"
        seen = answer.json["headers"]
        assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "http")
        await until(lambda: gateway.status()["retired_workers"] == 0)
        log = (home.logs / "gateway.log").read_text()
        assert log.count('"request_id":"kept"') == 1
        await idle.close()
        await new.stop()

    asyncio.run(scenario())


def test_a_long_request_outlives_a_reload_and_is_counted(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        old, new = await Replica("old", folder).start(), await Replica("new", folder).start()
        gateway.apply([route("iris", old)])
        client = Client(gateway.port)
        pending = asyncio.create_task(client.request("/api/v1/service/iris/score", b"x", {"x-sleep": "1.5"}))
        await until(lambda: old.in_flight == 1)
        gateway.apply([route("iris", new), route("another")])
        assert gateway.in_use("iris", "old") == 1
        assert gateway.in_use("iris", "new") == gateway.in_use("nothing", "old") == 0
        assert gateway.counters()["iris"]["sessions"] == 1
        assert (await pending).json["replica"] == "old"
        await until(lambda: gateway.in_use("iris", "old") == 0)
        await client.close()
        await old.stop()
        await new.stop()

    asyncio.run(scenario())


def test_apply_is_idempotent_and_undoes_a_drain(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        one, two = await Replica("a", folder).start(), await Replica("b", folder).start()
        table = [route("iris", one, two)]
        gateway.apply(table)
        worker = gateway.status()
        gateway.drain("iris", "a")
        gateway.drain("iris", "unknown")
        client = Client(gateway.port)
        drained = {(await client.request("/api/v1/service/iris/score")).json["replica"] for _ in range(10)}
        assert drained == {"b"}
        gateway.apply(table)
        gateway.ensure_running(table)
        back = {(await client.request("/api/v1/service/iris/score")).json["replica"] for _ in range(10)}
        assert back == {"a", "b"}
        assert gateway.status()["pid"] == worker["pid"]
        await client.close()
        await one.stop()
        await two.stop()

    asyncio.run(scenario())


def test_a_new_guard_needs_no_reload(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("a", folder).start()
        gateway.apply([route("iris", iris)])
        client = Client(gateway.port)
        await client.request("/api/v1/service/iris/score")
        gateway.apply([route("iris", iris, max_connections=1)])
        # The idle connection would have kept a retired worker alive.
        assert gateway.status()["retired_workers"] == 0
        assert sorted(await asyncio.gather(scored(gateway.port), scored(gateway.port))) == [200, 429]
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


async def scored(port: int) -> int:
    client = Client(port)
    answer = await client.request("/api/v1/service/iris/score", b"x", {"x-sleep": "1"})
    await client.close()
    return answer.status


def test_two_hundred_services_and_one_more(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("a", folder).start()
        table = [
            Route(f"s{number}", tuple(Server(f"s{number}-{k}", iris.server.address) for k in range(4)), 60_000, 108)
            for number in range(200)
        ]
        await asyncio.to_thread(gateway.apply, table)
        await asyncio.to_thread(gateway.apply, [*table, route("iris", iris)])
        client = Client(gateway.port)
        assert (await client.request("/api/v1/service/iris/score")).status == 200
        assert (await client.request("/api/v1/service/s199/score")).status == 200
        assert len(gateway.status()["services"]) == 201
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "routes",
    [
        [Route("a", (), 1, 1), Route("a", (), 1, 1)],
        [Route("Bad", (), 1, 1)],
        [Route("a", (), 0, 1)],
        [Route("a", (), 1, 0)],
        [Route("a", (Server("x", "unix@/s"), Server("x", "unix@/t")), 1, 1)],
        [Route("a", (Server("x y", "unix@/s"),), 1, 1)],
        [Route("a", (Server("x", "unix@/s check\n    server evil 1.2.3.4:5"),), 1, 1)],
        [Route("a", (Server("x", "nowhere"),), 1, 1)],
    ],
)
def test_a_table_that_cannot_be_written_changes_nothing(gateway: Gateway, routes: list[Route]) -> None:
    before = gateway.status()
    with pytest.raises(Error):
        gateway.apply(routes)
    assert gateway.status()["services"] == before["services"] == []


def test_a_file_that_haproxy_refuses_changes_nothing(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        # Passes our own look, not HAProxy's: no such port.
        bad = Route("other", (Server("x", "127.0.0.1:99999"),), 1000, 10)
        with pytest.raises(GatewayFailed, match="does not accept"):
            gateway.apply([route("iris", iris), bad])
        client = Client(gateway.port)
        assert (await client.request("/api/v1/service/iris/score")).status == 200
        gateway.apply([route("iris", iris), route("other")])
        assert gateway.status()["services"] == ["iris", "other"]
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_apply_needs_a_running_gateway(make_gateway: MakeGateway) -> None:
    with pytest.raises(GatewayFailed, match="does not run"):
        make_gateway().apply([])


def test_files_and_sockets_are_private(gateway: Gateway, home: Home) -> None:
    names = ["gateway/haproxy.cfg", "run/master", "run/relay", "run/gateway.json", "logs/gateway.log"]
    for path in (home.path / name for name in names):
        assert path.stat().st_mode & 0o077 == 0, path
        assert path.stat().st_uid == os.getuid()
