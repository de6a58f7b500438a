"""A replica refuses what it never started with 425: it is tried on another replica, and the client sees 429 or 503."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from argosy.gateway.gateway import Gateway
from gateway.harness import Client, Load, Replica, route, until

SCORE = "/api/v1/service/iris/score"


def test_refused_work_goes_to_the_idle_replica(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        full, idle = await Replica("a", folder).start(), await Replica("b", folder).start()
        full.shed = "queue_full"
        gateway.apply([route("iris", full, idle)])
        client = Client(gateway.port)
        arrivals = []
        for _ in range(20):
            answer = await client.request(SCORE, b"x" * 10_000)
            assert (answer.status, answer.json["replica"], answer.json["body_bytes"]) == (200, "b", 10_000)
            arrivals.append(int(answer.json["headers"]["x-argosy-arrival"]))
        assert full.refused > 5
        assert arrivals == sorted(arrivals)
        assert gateway.counters()["iris"]["ready_servers"] == 2
        load = await Load(gateway.port, "iris").start()
        await asyncio.sleep(0.5)
        await load.stop()
        assert load.failures == []
        await client.close()
        await full.stop()
        await idle.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(("overload_status", "reason"), [(429, "queue_full"), (503, "queue_wait")])
@pytest.mark.parametrize("size", [10, 5_000_000])
def test_refused_by_all_is_429_or_503(
    gateway: Gateway, folder: Path, overload_status: int, reason: str, size: int
) -> None:
    """A body larger than the gateway's buffer cannot be tried again; its refusal is turned all the same."""

    async def scenario() -> None:
        replicas = [await Replica(name, folder).start() for name in "ab"]
        for replica in replicas:
            replica.shed, replica.overload_status = reason, overload_status
        gateway.apply([route("iris", *replicas)])
        client = Client(gateway.port)
        answer = await client.request(SCORE, b"x" * size)
        assert (answer.status, answer.json["error"]["code"]) == (overload_status, reason)
        assert answer.headers["retry-after"] == "3"
        assert not [name for name in answer.headers if name.startswith("x-argosy")]
        assert sum(replica.refused for replica in replicas) == (2 if size == 10 else 1)
        assert gateway.counters()["iris"]["ready_servers"] == 2
        await client.close()
        for replica in replicas:
            await replica.stop()

    asyncio.run(scenario())


def test_a_425_of_the_script_stays_one(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("a", folder).start()
        gateway.apply([route("iris", iris)])
        client = Client(gateway.port)
        assert (await client.request(SCORE, headers={"x-status": "425"})).status == 425
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_a_replica_alone_is_asked_once(gateway: Gateway, folder: Path) -> None:
    """Asking it again would double what refusing costs, when there is least to spare."""

    async def scenario() -> None:
        alone = await Replica("a", folder).start()
        alone.shed = "queue_full"
        gateway.apply([route("iris", alone)])
        client = Client(gateway.port)
        for _ in range(5):
            assert (await client.request(SCORE, b"x")).status == 429
        assert alone.refused == 5
        await client.close()
        await alone.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("overload_status", [429, 503])
def test_beyond_the_guards_the_gateway_refuses(gateway: Gateway, folder: Path, overload_status: int) -> None:
    """At once, without a queue of its own, and only while that much is under way."""

    async def scored(replica_sleeps_s: str) -> tuple[int, object]:
        client = Client(gateway.port)
        answer = await client.request(SCORE, b"x", {"x-sleep": replica_sleeps_s})
        await client.close()
        if answer.status == 200:
            return 200, None
        assert answer.headers["retry-after"] == "1" and answer.headers["x-request-id"]
        return answer.status, answer.json["error"]["code"]

    async def scenario() -> None:
        replicas = [await Replica(name, folder).start() for name in "ab"]
        gateway.apply([replace(route("iris", *replicas, max_connections=2), overload_status=overload_status)])
        begun = [asyncio.create_task(scored("2")) for _ in range(4)]
        await until(lambda: gateway.counters()["iris"]["sessions"] == 4)
        assert await scored("0") == (overload_status, "queue_full")
        assert not any(task.done() for task in begun), "nobody waited for them"
        assert [await task for task in begun] == [(200, None)] * 4
        assert await scored("0") == (200, None)
        assert sum(replica.refused for replica in replicas) == 0
        for replica in replicas:
            await replica.stop()

    asyncio.run(scenario())
