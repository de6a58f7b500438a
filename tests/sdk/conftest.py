"""A fake control plane, and both clients behind one face."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from argosy.sdk.address import Address
from argosy.sdk.aio import AsyncClient
from argosy.sdk.client import Client
from sdk.fake_control_plane import TOKEN, FakeControlPlane

Run = Callable[..., Any]


@pytest.fixture
def fake() -> Iterator[FakeControlPlane]:
    server = FakeControlPlane()
    yield server
    server.close()


@pytest.fixture
def client(fake: FakeControlPlane) -> Iterator[Client]:
    with Client.at(Address(fake.url, TOKEN)) as client:
        yield client


@pytest.fixture(params=["blocking", "async"])
def run(request: pytest.FixtureRequest, fake: FakeControlPlane) -> Run:
    """`run("models.show", "iris")` on each of the two clients."""

    def blocking(call: str, *args: Any, **kwargs: Any) -> Any:
        with Client(fake.url, TOKEN) as client:
            return _method(client, call)(*args, **kwargs)

    def awaited(call: str, *args: Any, **kwargs: Any) -> Any:
        async def main() -> Any:
            async with AsyncClient(fake.url, TOKEN) as client:
                answer = _method(client, call)(*args, **kwargs)
                return await answer if inspect.isawaitable(answer) else [item async for item in answer]

        return asyncio.run(main())

    return blocking if request.param == "blocking" else awaited


def _method(client: Any, call: str) -> Any:
    for name in call.split("."):
        client = getattr(client, name)
    return client
