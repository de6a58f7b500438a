"""The holding listener behind a real HAProxy, with the replicas of the gateway's tests and a control plane of fakes."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.harness import Client, Replica, until
from server.house import SCORE, House


def test_held_requests_wake_the_service_and_are_all_answered(house: House) -> None:
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            asked = [
                asyncio.create_task(house.ask(SCORE + "?a=b", b"x" * n, x_request_id=f"id-{n}")) for n in range(20)
            ]
            replica = await house.replica_starts()
            for number, answer in enumerate(await asyncio.gather(*asked)):
                seen = answer.json
                assert (answer.status, seen["body_bytes"], seen["path"]) == (200, number, SCORE + "?a=b")
                assert seen["headers"]["x-request-id"] == answer.headers["x-request-id"] == f"id-{number}"
                assert seen["headers"]["authorization"] == house.key["authorization"]
                assert {"x-argosy-arrival", "x-forwarded-for", "x-forwarded-proto"} <= seen["headers"].keys()
                assert not {"accept-encoding", "user-agent"} & seen["headers"].keys(), "nothing is added"
            assert replica.served == 20
            assert (await house.ask()).status == 200
            assert house.gateway.counters()["iris"]["ready_servers"] == 1

    asyncio.run(scenario())


def test_a_slow_replica_gets_held_requests_one_by_one(house: House) -> None:
    """As many at a time as it has slots: more would be shed from its queue."""
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            asked = [asyncio.create_task(house.ask(x_sleep="0.02")) for _ in range(10)]
            replica = await house.replica_starts()
            most = 0
            while not all(task.done() for task in asked):
                most = max(most, replica.in_flight)
                await asyncio.sleep(0.002)
            assert [task.result().status for task in asked] == [200] * 10
            assert most == 1

    asyncio.run(scenario())


def test_a_shed_answer_is_tried_again(house: House) -> None:
    """Here, since the gateway cannot repeat a body of that size."""
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            asked = asyncio.create_task(house.ask(body=b"x" * 30_000))
            replica = await house.replica_starts(shed="queue_full")
            await until(lambda: replica.refused > 1)
            assert not asked.done()
            replica.shed = ""
            answer = await asked
            assert (answer.status, answer.json["body_bytes"]) == (200, 30_000)

    asyncio.run(scenario())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_streamed(house: House, chunked: bool) -> None:
    house.sleep()
    size = 3_000_000

    async def scenario() -> None:
        async with house.open():
            client = Client(house.gateway.port)
            head = {"host": "h", "authorization": house.key["authorization"]}
            head |= {"transfer-encoding": "chunked"} if chunked else {"content-length": str(size)}
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size) if chunked else b"x" * size
            asked = asyncio.create_task(client.raw(f"POST {SCORE} HTTP/1.1\r\n{lines}\r\n".encode() + body))
            await house.replica_starts()
            answer = await asked
            assert (answer.status, answer.json["body_bytes"]) == (200, size)
            await client.close()

    asyncio.run(scenario())


# anyio, below httpx, leaves the socket of an attempt that was given up to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_replica_that_takes_no_connections_is_waited_for(house: House) -> None:
    """Stopped, with its backlog full: nothing was sent. Meanwhile the request counts as need again."""
    house.sleep(request_timeout_ms=30_000)

    async def scenario() -> None:
        async with house.open():
            asked = asyncio.create_task(house.ask())
            await until(lambda: house.services.registry.get("iris").wanted > 0)
            with full(house.folder / "r0"):
                await asyncio.to_thread(house.services.step)
                (name,) = house.services.target.replicas
                house.services.target.change(name, state="ready", address=f"unix@{house.folder / 'r0'}")
                await asyncio.to_thread(house.services.settle)
                await until(lambda: house.services.autoscaler._held["iris"] == 0)
                await until(lambda: house.services.autoscaler._held["iris"] == 1)
                assert not asked.done()
            house.replicas.append(await Replica("r0", house.folder).start())
            assert (await asked).status == 200
            await until(lambda: house.services.autoscaler._held["iris"] == 0)

    asyncio.run(scenario())
    gc.collect()


@contextlib.contextmanager
def full(path: Path) -> Iterator[None]:
    """A listener that accepts nobody, whose backlog is taken."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        yield
    path.unlink()


def test_a_start_that_fails_says_why(house: House) -> None:
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            asked = asyncio.create_task(house.ask())
            await until(lambda: house.services.registry.get("iris").wanted > 0)
            for _ in range(3):
                await asyncio.to_thread(house.services.step)
                for name in list(house.services.target.replicas):
                    house.services.target.change(name, state="gone", failure="init() raised", deterministic=True)
                await asyncio.to_thread(house.services.step)
            answer = await asked
            assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_replica")
            assert "init() raised" in answer.json["error"]["message"]
            assert int(answer.headers["retry-after"]) >= 1
            health = await house.send("/api/v1/service/iris/", b"", {}, "GET")
            assert health.status == 503, "it cannot be woken"

    asyncio.run(scenario())


def test_a_caller_that_leaves_frees_its_place(house: House) -> None:
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            client = Client(house.gateway.port)
            asked = asyncio.create_task(client.request(SCORE, b"[1]", house.key))
            await until(lambda: house.services.autoscaler._held["iris"] == 1)
            asked.cancel()
            await client.close()
            await until(lambda: house.services.autoscaler._held["iris"] == 0)
            await house.replica_starts()
            await asyncio.sleep(0.2)
            assert house.replicas[0].served == 0

    asyncio.run(scenario())


def test_a_replica_that_dies_in_the_middle_is_a_502(house: House) -> None:
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            asked = asyncio.create_task(house.ask(x_sleep="20"))
            replica = await house.replica_starts()
            await until(lambda: replica.in_flight == 1)
            await replica.crash()
            house.replicas.clear()
            answer = await asked
            assert (answer.status, answer.json["error"]["code"]) == (502, "replica_failed")

    asyncio.run(scenario())


def test_a_control_plane_that_stops_or_is_dead_is_a_503(house: House) -> None:
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            asked = asyncio.create_task(house.ask())
            await until(lambda: house.services.autoscaler._held["iris"] == 1)
        for answer in (await asked, await house.ask()):
            assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_replica")
            assert int(answer.headers["retry-after"]) >= 1

    asyncio.run(scenario())
