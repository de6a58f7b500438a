"""What must not wake a service that sleeps, and what is answered instead."""

import asyncio
import time

import pytest

from gateway.harness import Client, until
from server.house import SCORE, House


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("size", [1001, 3_000_000])
def test_a_body_over_the_limit_is_413(house: House, announced: bool, size: int) -> None:
    house.sleep(max_body_bytes=1000)

    async def scenario() -> None:
        async with house.open():
            if announced:
                answer = await house.ask(body=b"x" * size)
            else:
                client = Client(house.gateway.port)
                lines = f"host: h\r\nauthorization: {house.key['authorization']}\r\ntransfer-encoding: chunked\r\n"
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)
                answer = await client.raw(f"POST {SCORE} HTTP/1.1\r\n{lines}\r\n".encode() + body)
                await client.close()
            assert (answer.status, answer.json["error"]["code"]) == (413, "too_large")
            if announced:
                assert house.services.registry.get("iris").wanted == 0, "refused before it wakes anything"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        (SCORE, "", 401),
        (SCORE, "Bearer wrong", 401),
        (SCORE, "Basic %%%", 401),
        ("/api/v1/service/iris/docs", "", 401),
        ("/api/v1/service/iris/", "", 200),
        ("/api/v1/service/iris", "", 200),
        ("/api/v1/service/iris/v2/health/ready", "", 200),
        ("/api/v1/service/iris/v2/models/iris/ready", "", 200),
        ("/api/v1/service/iris/v2/models/iris/versions/1/ready", "", 200),
        ("/api/v1/service/iris/v2/models/iris", "", 401),
    ],
)
def test_without_a_key_nothing_wakes(house: House, path: str, key: str, status: int) -> None:
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            method = "POST" if path == SCORE else "GET"
            answer = await house.send(path, b"", {"authorization": key} if key else {}, method)
            assert answer.status == status
            if status == 401:
                assert answer.json["error"]["code"] == "unauthorized"
                assert "iris" in answer.headers["www-authenticate"]
            else:
                assert answer.json == "Healthy"
            assert house.services.registry.get("iris").wanted == 0

    asyncio.run(scenario())


def test_public_documents_do_not_wake_it(house: House) -> None:
    house.sleep(public_docs=True)

    async def scenario() -> None:
        async with house.open():
            answer = await house.send("/api/v1/service/iris/docs", b"", {}, "GET")
            assert (answer.status, "asleep" in answer.json["error"]["message"]) == (503, True)
            assert house.services.registry.get("iris").wanted == 0

    asyncio.run(scenario())


def test_a_new_key_is_known_at_once(house: House) -> None:
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            old = house.key
            house.services.keyring.regenerate("iris", "primary")
            await asyncio.to_thread(house.services.reconciler.push_settings, "iris")
            await asyncio.to_thread(house.services.settle)
            assert (await house.send(SCORE, b"", old)).status == 401
            asked = asyncio.create_task(house.ask())
            await house.replica_starts()
            assert (await asked).status == 200

    asyncio.run(scenario())


def test_deadlines_and_timeouts_end_the_wait(house: House) -> None:
    house.sleep(request_timeout_ms=700)

    async def scenario() -> None:
        async with house.open():
            began = time.monotonic()
            short = await house.ask(x_request_timeout_ms="150")
            assert (short.status, short.json["error"]["code"]) == (429, "deadline")
            assert time.monotonic() - began >= 0.14
            long = await house.ask()
            assert (long.status, long.json["error"]["code"]) == (503, "no_ready_replica")
            assert "asleep, and it is not ready yet" in long.json["error"]["message"]
            assert min(int(short.headers["retry-after"]), int(long.headers["retry-after"])) >= 1

    asyncio.run(scenario())


@pytest.mark.parametrize("given", ["0", "-1", "soon", "1.5", "007", ""])
def test_a_timeout_that_is_none_is_400_as_a_replica_says(house: House, given: str) -> None:
    house.sleep()

    async def scenario() -> None:
        async with house.open():
            answer = await house.ask(x_request_timeout_ms=given)
            assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_input")
            assert answer.json["error"]["details"]["received"] == given
            assert house.services.registry.get("iris").wanted == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(("own", "status"), [("20", 429), ("", 503)])
def test_who_comes_too_late_wakes_nothing(house: House, own: str, status: int) -> None:
    """The listener alone: the gateway says itself when a request arrived."""
    house.sleep(request_timeout_ms=100)

    async def scenario() -> None:
        async with house.open():
            reader, writer = await asyncio.open_unix_connection(str(house.home.hold))
            head = {**house.key, "host": "h", "content-length": "0"}
            head["x-argosy-arrival"] = str(int(time.time() * 1000) - 5_000)
            head |= {"x-request-timeout-ms": own} if own else {}
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            writer.write(f"POST {SCORE} HTTP/1.1\r\n{lines}\r\n".encode())
            assert int((await reader.readline()).split()[1]) == status
            writer.close()
            assert house.services.registry.get("iris").wanted == 0

    asyncio.run(scenario())


def test_a_service_made_anew_has_its_own_keys(house: House) -> None:
    """Both are of generation 1."""
    house.sleep()
    generation = house.services.registry.get("iris").generation

    async def scenario() -> None:
        async with house.open():
            old = house.key
            assert (await house.send(SCORE, b"", {})).status == 401, "now its keys are known"
            await asyncio.to_thread(_make_anew, house)
            assert house.services.registry.get("iris").generation == generation
            assert (await house.send(SCORE, b"", old)).status == 401
            assert house.services.registry.get("iris").wanted == 0
            asked = asyncio.create_task(house.ask())
            await house.replica_starts()
            assert (await asked).status == 200

    asyncio.run(scenario())


def _make_anew(house: House) -> None:
    house.services.registry.mark_deleting("iris")
    house.services.reconciler.wake("iris")
    house.services.steps(6)
    assert house.services.registry.names() == []
    house.sleep()


def test_only_so_many_are_held(house: House) -> None:
    house.sleep(max_replicas=2, max_queued_requests=1)

    async def scenario() -> None:
        async with house.open():
            asked = [asyncio.create_task(house.ask()) for _ in range(9)]
            await until(lambda: sum(task.done() for task in asked) == 5)
            refused = [task.result() for task in asked if task.done()]
            assert {(a.status, a.json["error"]["code"]) for a in refused} == {(429, "queue_full")}
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
            await house.replica_starts()
            assert [answer.status for answer in await asyncio.gather(*asked)].count(200) == 4

    asyncio.run(scenario())


def test_a_service_scaled_to_zero_by_hand_is_not_held(house: House) -> None:
    house.services.create(replicas=0)
    house.services.settle()

    async def scenario() -> None:
        async with house.open():
            answer = await house.ask()
            assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_replica")
            assert house.services.registry.get("iris").wanted == 0

    asyncio.run(scenario())


def test_only_the_user_can_connect(house: House) -> None:
    async def scenario() -> None:
        async with house.open():
            assert house.home.hold.stat().st_mode & 0o777 == 0o600

    house.sleep()
    asyncio.run(scenario())
