"""The holding listener behind a real HAProxy, with the replicas of the gateway's tests and a control plane of fakes."""

import asyncio
import contextlib
import gc
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy.gateway.gateway import Gateway
from argosy.server.holding import Holding
from argosy.server.routing import GatewayRouter
from argosy.settings import Home, Settings
from gateway.harness import Answer, Client, Replica, until
from services.fakes import Services
from store.shelf import Shelf

SCORE = "/api/v1/service/iris/score"
ASLEEP: dict[str, Any] = {"autoscale_enabled": True, "min_replicas": 0}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since sockets lie in it."""
    path = Path(tempfile.mkdtemp(prefix="hold-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


class House:
    """A sleeping service `iris`, the gateway in front of it and the listener behind it."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self.folder, self.home = folder, Home(folder / "home")
        self.home.prepare()
        self.services = Services(shelf)
        self.gateway = Gateway(self.home, Settings(gateway_port=0))
        self.router = GatewayRouter(self.gateway, self.home.hold)
        self.services.router = self.router  # type: ignore[assignment]
        self.services.new_reconciler()
        self.services.new_autoscaler()
        self.gateway.ensure_running([])
        self.replicas: list[Replica] = []

    def sleep(self, **settings: Any) -> None:
        self.services.create(**{**ASLEEP, **settings})
        self.services.settle()
        self.services.registry.rescale("iris", 0)
        self.services.reconciler.look("iris")
        self.services.settle()
        assert self.services.target.replicas == {}

    @property
    def key(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.services.keyring.keys('iris').primary}"}

    async def replica_starts(self, shed: str = "") -> Replica:
        """What was wanted becomes ready, with a real socket."""
        await until(lambda: self.services.registry.get("iris").wanted > 0)
        await asyncio.to_thread(self.services.step)
        (name,) = self.services.target.replicas
        replica = await Replica(f"r{len(self.replicas)}", self.folder, shed=shed).start()
        self.replicas.append(replica)
        self.services.target.change(name, state="ready", address=replica.server.address)
        await asyncio.to_thread(self.services.settle)
        return replica

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        holding = Holding(
            self.home.hold, self.services.reconciler, self.services.autoscaler, self.services.keyring.hashes
        )
        serving = asyncio.create_task(holding.serve())
        await until(self.home.hold.exists)
        try:
            yield
        finally:
            await holding.stop()
            await serving
            for replica in self.replicas:
                await replica.crash()

    async def ask(self, path: str = SCORE, body: bytes = b"[1]", **headers: str) -> Answer:
        return await self.send(path, body, {**self.key, **{k.replace("_", "-"): v for k, v in headers.items()}})

    async def send(self, path: str, body: bytes, headers: dict[str, str], method: str = "POST") -> Answer:
        client = Client(self.gateway.port)
        try:
            return await client.request(path, body, headers, method)
        finally:
            await client.close()


@pytest.fixture
def house(folder: Path, shelf: Shelf) -> Iterator[House]:
    house = House(folder, shelf)
    yield house
    house.gateway.stop(0)


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
