"""A sleeping service behind a real HAProxy, with the holding listener and a control plane of fakes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from argosy.gateway.gateway import Gateway
from argosy.server.holding import Holding
from argosy.server.routing import GatewayRouter
from argosy.settings import Home, Settings
from gateway.harness import Answer, Client, Replica, until
from services.fakes import Services
from store.shelf import Shelf

SCORE = "/api/v1/service/iris/score"
ASLEEP: dict[str, Any] = {"autoscale_enabled": True, "min_replicas": 0}


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
