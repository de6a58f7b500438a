"""What clients and replicas see of the gateway, through a real HAProxy."""

import asyncio
import socket
import time
from pathlib import Path

import pytest

from argosy.gateway.gateway import Gateway
from gateway.harness import Client, Replica, route, until

SCORE = "/api/v1/service/iris/score"


def test_routes_by_service_and_tells_the_replica_who_asks(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        dotted = await Replica("d", folder).start()
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris), route("7.iris-v2.0", dotted)])
        client = Client(gateway.port)
        before_ms = time.time() * 1000
        hostile = {
            "x-argosy-arrival": "1",
            "X-Argosy-Shed": "yes",
            "x-forwarded-for": "9.9.9.9",
            "x-forwarded-proto": "https",
            "X-Forwarded-Prefix": "/evil",
            "forwarded": "for=9.9.9.9",
            "x-request-id": "mine-1!#Z[]^~",
        }
        answer = await client.request(SCORE + "?a=b", b"[1]", hostile)
        seen = answer.json["headers"]
        assert (answer.status, answer.json["replica"], answer.json["path"]) == (200, "i", SCORE + "?a=b")
        assert answer.headers["x-request-id"] == seen["x-request-id"] == "mine-1!#Z[]^~"
        assert before_ms - 1 <= int(seen["x-argosy-arrival"]) <= time.time() * 1000 + 1
        assert {name for name in seen if name.startswith(("x-", "forwarded"))} == {
            "x-request-id",
            "x-argosy-arrival",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
        }
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert (seen["x-forwarded-proto"], seen["x-forwarded-host"]) == ("http", "models.example")
        other = await client.request("/api/v1/service/7.iris-v2.0/")
        assert other.json["replica"] == "d"
        assert len(other.headers["x-request-id"]) == 36
        await client.close()
        await iris.stop()
        await dotted.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", "not_found"),
        ("/healthz", "not_found"),
        ("/api/v1/services", "not_found"),
        ("/api/v1/service/", "service_not_found"),
        ("/api/v1/service/other/score", "service_not_found"),
        ("/api/v1/service/iris/livez", "not_found"),
        ("/api/v1/service/iris/readyz/", "not_found"),
        ("/api/v1/service/iris//metrics", "not_found"),
        ("/api/v1/service/iris/%6divez/../%6cive%7a", "not_found"),
        ("/api/v1/service/iris/%6cive%7a", "not_found"),
        ("/api/v1/service/iris/./score", "not_found"),
        ("/api/v1/service/other/../iris/score", "not_found"),
        ("/api/v1/service/other/%2e%2E/iris/score", "not_found"),
        ("/api/v1/service/" + "n" * 1000 + "/score", "service_not_found"),
        ("/api/v1/service/%22%3Cscript%3E/score", "service_not_found"),
        ('/api/v1/service/"a"/score', "service_not_found"),
        ("/api/v1/service/no_service/score", "service_not_found"),
    ],
)
def test_other_paths_are_not_found(gateway: Gateway, folder: Path, path: str, code: str) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        client = Client(gateway.port)
        answer = await client.request(path, headers={"x-request-id": "me"})
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"] == "me"
        error = answer.json["error"]
        assert (error["code"], sorted(error)) == (code, ["code", "details", "message"])
        assert ("other" in error["message"]) == (path == "/api/v1/service/other/score")
        assert "script" not in error["message"] and "nnn" not in error["message"]
        assert iris.served == 0
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_no_ready_replica(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris), route("empty")])
        client = Client(gateway.port)
        for service in ("empty", "iris"):
            if service == "iris":
                iris.ready = False
                await until(lambda: gateway.counters()["iris"]["ready_servers"] == 0)
            answer = await client.request(f"/api/v1/service/{service}/score", headers={"x-request-id": "me"})
            assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_replica")
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["x-request-id"] == "me"
        iris.ready = True
        await until(lambda: gateway.counters()["iris"]["ready_servers"] == 1)
        assert (await client.request(SCORE)).status == 200
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_an_answer_of_500_never_ejects_a_replica(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        client = Client(gateway.port)
        for _ in range(50):
            assert (await client.request(SCORE, headers={"x-status": "500"})).status == 500
        assert (await client.request(SCORE)).status == 200
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_a_crashed_replica_costs_no_request_while_another_lives(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        one, two = await Replica("a", folder).start(), await Replica("b", folder).start()
        gateway.apply([route("iris", one, two)])
        await one.crash()
        client = Client(gateway.port)
        answers = [await client.request(SCORE) for _ in range(60)]
        assert {answer.status for answer in answers} == {200}
        assert two.served == 60
        await until(lambda: gateway.counters()["iris"]["ready_servers"] == 1)
        await client.close()
        await two.stop()

    asyncio.run(scenario())


def test_a_replica_that_dies_in_the_middle_is_a_502_and_not_repeated(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        one, two = await Replica("a", folder).start(), await Replica("b", folder).start()
        gateway.apply([route("iris", one, two)])
        client = Client(gateway.port)
        pending = asyncio.create_task(client.request(SCORE, b"x", {"x-sleep": "30"}))
        await until(lambda: one.in_flight + two.in_flight == 1)
        busy, other = (one, two) if one.in_flight else (two, one)
        await busy.crash()
        answer = await pending
        assert (answer.status, answer.json["error"]["code"]) == (502, "replica_failed")
        assert "x-request-id" in answer.headers
        assert other.served == other.in_flight == 0
        await client.close()
        await other.stop()

    asyncio.run(scenario())


def test_a_slow_answer_is_a_504(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris, timeout_ms=1)])
        client = Client(gateway.port)
        answer = await client.request(SCORE, b"x", {"x-sleep": "30"})
        assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_a_client_that_leaves_frees_the_replica(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        client = Client(gateway.port)
        pending = asyncio.create_task(client.request(SCORE, b"x", {"x-sleep": "30"}))
        await until(lambda: iris.in_flight == 1)
        assert gateway.in_use("iris", "i") == 1
        pending.cancel()
        await client.close()
        await until(lambda: iris.aborted == 1)
        await until(lambda: gateway.in_use("iris", "i") == 0)
        await iris.stop()

    asyncio.run(scenario())


def test_large_and_chunked_bodies_pass_unchanged(gateway: Gateway, folder: Path) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        client = Client(gateway.port)
        large = await client.request(SCORE, b"x" * 30_000_000)
        assert large.json["body_bytes"] == 30_000_000
        head = f"POST {SCORE} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        chunk = b"%x\r\n" % 100_000 + b"y" * 100_000 + b"\r\n"
        chunked = await client.raw(head + chunk * 50 + b"0\r\n\r\n")
        assert chunked.json["body_bytes"] == 5_000_000
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("given", ["has space", "x" * 129, "", "caf\u00e9", '"', "a\\b"])
def test_a_request_id_that_cannot_be_used_is_replaced(gateway: Gateway, folder: Path, given: str) -> None:
    async def scenario() -> None:
        iris = await Replica("i", folder).start()
        gateway.apply([route("iris", iris)])
        client = Client(gateway.port)
        answer = await client.request(SCORE, headers={"x-request-id": given})
        assert len(answer.json["headers"]["x-request-id"]) == 36
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "content",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad\x01name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"a" * 80_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(gateway: Gateway, content: bytes) -> None:
    async def scenario() -> None:
        client = Client(gateway.port)
        assert (await client.raw(content)).status == 400
        await client.close()

    asyncio.run(scenario())


def test_a_header_that_never_ends_is_cut(gateway: Gateway) -> None:
    began, received = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.settimeout(0.5)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        while time.monotonic() - began < 60:
            try:
                data = connection.recv(4096)
                if not data:
                    break
                received += data
            except TimeoutError:
                connection.sendall(b"x: y\r\n")
            except ConnectionError:
                break
    assert received.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 40
