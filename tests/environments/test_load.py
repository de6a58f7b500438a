"""Callers against a server that answers as it is told."""

import asyncio
import tempfile
from pathlib import Path

import pytest

from argosy.environments.load import STREAM, Results, level


class Answering(asyncio.Protocol):
    def __init__(self, answer: bytes, ends: list[asyncio.Future[None]]) -> None:
        self._answer = answer
        self._end = asyncio.get_running_loop().create_future()
        ends.append(self._end)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)

    def connection_lost(self, problem: Exception | None) -> None:
        self._end.set_result(None)


def met(answer: bytes) -> Results:
    async def load() -> Results:
        with tempfile.TemporaryDirectory() as folder:
            path, ends = str(Path(folder) / "s"), list[asyncio.Future[None]]()
            server = await asyncio.get_running_loop().create_unix_server(lambda: Answering(answer, ends), path)
            found = await level(path, [b"request"], 2, 0.01, 5)
            server.close()
            await asyncio.gather(*ends)
        return found

    return asyncio.run(load())


def test_answers_are_counted() -> None:
    results = met(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42")
    assert len(results.times_s) >= 20
    assert not results.failures


def test_a_stream_is_told_apart() -> None:
    results = met(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n42\r\n0\r\n\r\n")
    assert set(results.failures) == {STREAM}
    assert results.times_s == []


@pytest.mark.parametrize(
    ("body", "said"), [(b'{"error": {"message": "/x: a number"}}', "/x: a number"), (b"<b>", "<b>"), (b"[1]", "[1]")]
)
def test_a_refusal_is_shown_by_its_message(body: bytes, said: str) -> None:
    results = met(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert set(results.failures) == {f"400: {said}"}
