"""The REST API in process: the real registries, and fakes for what runs replicas, builds and carries requests."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from argosy.environments.registry import EnvironmentRegistry
from argosy.images.distribution.logins import Logins
from argosy.images.distribution.patience import Patience
from argosy.images.distribution.registries import Registries
from argosy.images.oci.create import OciImages
from argosy.images.oci.layout import OciLayout
from argosy.images.transfers import Transfers
from argosy.keys import Vault, new_key
from argosy.manifests.create import ManifestBuilder
from argosy.records import Reference
from argosy.server.app import build_app
from argosy.server.control import Control
from argosy.server.operations import OperationRunner, Step
from argosy.server.tuner import Tuner
from argosy.settings import Home, Settings
from services.fakes import Services
from store.shelf import Shelf

TOKEN = "the-token"
KINDS = (
    "image.run",
    "model.fetch", "manifest.create", "image.create",
    "service.create", "service.update", "service.rollback", "service.delete",
)  # fmt: skip


class FakeGateway:
    port = 7780

    def status(self) -> dict[str, Any]:
        return {"state": "running", "url": "http://127.0.0.1:7780", "version": "2.8", "pid": 1}

    def counters(self) -> dict[str, dict[str, int]]:
        return {"iris": {"requests": 3}}


class FakeBuilder:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def delete(self, reference: Reference) -> None:
        self._shelf.images.delete(reference)


class Caller:
    """A blocking client of an app in this process. What the app raises after its answer is left to its own log."""

    def __init__(self, app: Any, runner: asyncio.Runner, headers: Mapping[str, str]) -> None:
        self._runner = runner
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://plane", headers=dict(headers))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)

    def close(self) -> None:
        self._runner.run(self._client.aclose())


class Plane:
    """`client` sends the token with every request, `stranger` sends none."""

    def __init__(self, shelf: Shelf, services: Services) -> None:
        self.shelf = shelf
        self.services = services
        self.stopped: list[bool] = []
        home = Home(shelf.folder)
        self.ran: list[dict[str, Any]] = []
        steps = [Step("only", lambda job: self.ran.append(job.input))]
        self.operations = OperationRunner(shelf.database, dict.fromkeys(KINDS, steps), 2)
        registries = Registries(Logins(home.registries, Vault(new_key())), patience=Patience(first_s=0.01))
        oci = OciImages(
            OciLayout(home.oci), Settings(), shelf.database, shelf.images, shelf.blobs.path, "0.1.0", home.logs
        )
        self.control = Control(
            home=home,
            settings=Settings(model_limit_bytes=10_000),
            database=shelf.database,
            blobs=shelf.blobs,
            models=shelf.models,
            manifests=shelf.manifests,
            recipes=ManifestBuilder(shelf.models, shelf.manifests, shelf.blobs, Settings()),
            images=shelf.images,
            image_builder=FakeBuilder(shelf),  # type: ignore[arg-type]
            registries=registries,
            oci=oci,
            transfers=Transfers(Settings(), shelf.images, oci, registries),
            environments=EnvironmentRegistry(shelf.database),
            services=services.registry,
            keyring=services.keyring,
            target=services.target,
            tuner=Tuner(home, services.registry, shelf.images, None, None),  # type: ignore[arg-type]
            reconciler=services.reconciler,
            autoscaler=services.autoscaler,
            gateway=FakeGateway(),  # type: ignore[arg-type]
            operations=self.operations,
            url="http://127.0.0.1:7700",
            gateway_url="http://127.0.0.1:7780",
            ca_file=None,
            started_at="now",
            version="0.1.0",
            shutdown=self.stopped.append,
        )
        app = build_app(self.control, TOKEN, "0.1.0")
        self._runner = asyncio.Runner()
        self.stranger = Caller(app, self._runner, {})
        self.client = Caller(app, self._runner, {"authorization": f"Bearer {TOKEN}"})

    def close(self) -> None:
        self.operations.stop()
        self.client.close()
        self.stranger.close()
        self._runner.close()

    def service(self, name: str = "iris") -> None:
        self.services.create(name)
        self.services.settle(name)

    def logs(self, folder: Path, *lines: str) -> None:
        file = folder / "iris-1-r001.log"
        file.write_text("".join(f"{line}\n" for line in lines))
        self.services.target.log_files = lambda service: [file]  # type: ignore[method-assign]

    def finished(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 202, answer.text
        where = answer.headers["operation-location"]
        found: dict[str, Any] = self.client.get(where, params={"wait_s": 20, "seen": 9}).json()
        assert found["state"] == "succeeded", found
        return found


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error's object; the shape is checked on the way."""
    body = answer.json()
    assert set(body) == {"error"}, body
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "message", "details"}
    assert error["message"] and "Traceback" not in answer.text
    return error
