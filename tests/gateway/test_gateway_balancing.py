"""Who gets the work: the idle and the fast. Only a failed connection or an unready `/readyz` takes a replica out."""

import asyncio
from pathlib import Path

from argosy.gateway.gateway import Gateway
from gateway.harness import Client, Load, Replica, route, until

SCORE = "/api/v1/service/iris/score"


async def loaded(gateway: Gateway, requests: int, clients: int = 8) -> Load:
    load = await Load(gateway.port, "iris", clients).start()
    await until(lambda: load.answered >= requests)
    await load.stop()
    return load


def test_a_slow_replica_gets_less_work(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        slow, fast = await Replica("a", folder, delay_s=0.1).start(), await Replica("b", folder, delay_s=0.01).start()
        gateway.apply([route("iris", slow, fast)])
        load = await loaded(gateway, 300)
        assert load.failures == []
        assert 0 < slow.served * 3 < fast.served
        await slow.stop()
        await fast.stop()

    asyncio.run(scenario())


def test_a_black_hole_loses_nothing_and_stays_in(gateway: Gateway, folder: Path) -> None:
    """A replica that refuses at once always looks idle, so it is chosen first. All it refuses is done by the other."""

    async def scenario() -> None:
        hole, idle = await Replica("a", folder).start(), await Replica("b", folder, delay_s=0.005).start()
        hole.shed = "queue_full"
        gateway.apply([route("iris", hole, idle)])
        load = await loaded(gateway, 300)
        assert load.failures == []
        assert (hole.served, hole.refused > 100) == (0, True)
        assert gateway.counters()["iris"]["ready_servers"] == 2
        hole.shed = ""
        await loaded(gateway, 50)
        assert hole.served > 0, "it takes work as soon as it has room"
        await hole.stop()
        await idle.stop()

    asyncio.run(scenario())


def test_errors_of_the_script_take_no_replica_out(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        broken, well = await Replica("a", folder, status=500).start(), await Replica("b", folder).start()
        gateway.apply([route("iris", broken, well)])
        load = await loaded(gateway, 400)
        assert broken.served > 50
        assert {failure[:3] for failure in load.failures} == {"500"}, "and none is repeated: it did run"
        assert broken.served + well.served == load.answered
        assert gateway.counters()["iris"]["ready_servers"] == 2
        await broken.stop()
        await well.stop()

    asyncio.run(scenario())


def test_only_readyz_takes_a_busy_replica_out_and_back(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        one, two = await Replica("a", folder).start(), await Replica("b", folder).start()
        gateway.apply([route("iris", one, two)])
        client = Client(gateway.port)
        pending = asyncio.create_task(client.request(SCORE, b"x", {"x-sleep": "4"}))
        await until(lambda: one.in_flight + two.in_flight == 1)
        busy = one if one.in_flight else two
        busy.ready = False
        await until(lambda: gateway.counters()["iris"]["ready_servers"] == 1)
        before = busy.served
        assert (await loaded(gateway, 30)).failures == []
        assert busy.served == before
        busy.ready = True
        await until(lambda: gateway.counters()["iris"]["ready_servers"] == 2)
        assert (await pending).status == 200, "what it had was left to it"
        await client.close()
        await one.stop()
        await two.stop()

    asyncio.run(scenario())


def test_connections_to_a_replica_are_used_again(gateway: Gateway, folder: Path) -> None:
    """Also to one that was added without a reload: opening one for each request costs as much as the rest of it."""

    async def scenario() -> None:
        iris, new = await Replica("a", folder).start(), await Replica("b", folder).start()
        gateway.apply([route("iris", iris)])
        gateway.apply([route("iris", new)])
        client = Client(gateway.port)
        for _ in range(50):
            assert (await client.request("/api/v1/service/iris/score")).json["replica"] == "b"
        await client.close()
        assert new.served == 50 and new.accepted - new.checked < 10
        for replica in (iris, new):
            await replica.stop()

    asyncio.run(scenario())
