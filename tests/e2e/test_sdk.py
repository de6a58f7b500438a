"""The whole journey from Python: `argosy.connect()`, and `AsyncClient` in the same words."""

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import argosy as package
from argosy import AsyncClient, Client, connect
from argosy.errors import Error, NotRunning
from e2e.running import REQUIREMENTS, SCHEMA, Argosy, RecipeFolder


class Blocking:
    """An AsyncClient whose calls are waited for, so that one journey serves both clients."""

    def __init__(self, inner: Any, wait: Callable[[Any], Any]) -> None:
        self._inner, self._wait = inner, wait

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return Blocking(found, self._wait)

        def call(*arguments: Any, **options: Any) -> Any:
            answer = found(*arguments, **options)
            if inspect.isasyncgen(answer):
                return self._wait(_all(answer))
            return self._wait(answer)

        return call


async def _all(stream: Any) -> list[Any]:
    return [one async for one in stream]


def journey(client: Any, recipe: RecipeFolder, name: str, target: Path) -> None:
    """Register, freeze, build, deploy, score, look, update, scale, roll back, delete."""
    options: dict[str, Any] = {
        "script": recipe.folder / "score.py",
        "requirements": recipe.folder / "requirements.txt",
        "schema": SCHEMA,
    }
    seen: list[str] = []
    model = client.models.register(recipe.model(2), name, tags={"stage": "dev"}, metrics={"f1": 0.5})
    assert (model.reference, model.tags, model.metrics) == (f"{name}:1", {"stage": "dev"}, {"f1": 0.5})
    assert client.models.alias(f"{name}:1", "production").aliases == ["production"]
    manifest = client.manifests.create(name, models=[f"{name}@production"], on_message=seen.append, **options)
    assert manifest.result == {"manifest": f"{name}:1"}
    assert any("Resolving" in text for text in seen)
    assert client.manifests.show(name).recipe.requirements == REQUIREMENTS
    assert client.images.create(name, manifest=f"{name}:1").result["image"] == f"{name}:1"
    operation = client.services.create(name, image=f"{name}:1", wait=False)
    assert client.operations.wait(operation.id).state == "succeeded"
    assert client.services.wait(name).state == "healthy"
    assert client.services.run(name) == [2.0, 4.0]
    assert client.services.run(name, {"numbers": [5]}) == [10.0]

    second = client.services.update(name, model_files=[recipe.model(3)])
    assert second.result["revision"] == 2
    assert client.services.run(name, {"numbers": [5]}) == [15.0]
    assert [r.number for r in client.services.history(name)] == [2, 1]
    client.services.scale(name, 2)
    assert client.services.show(name).replicas_ready == 2
    client.services.rollback(name)
    assert client.services.run(name, {"numbers": [5]}) == [10.0]

    keys = client.services.keys(name)
    assert client.services.regenerate_key(name, "secondary").primary == keys.primary
    assert client.services.usage(name).sample == {"numbers": [1.0, 2.0]}
    assert any(record["message"] == "scoring 1" for record in client.services.logs(name))
    assert name in [s.name for s in client.services.list()]
    assert f"{name}/1" in client.models.show(f"{name}:1").used_by.revisions

    mistakes: list[tuple[Callable[[], Any], int, str]] = [
        (lambda: client.services.run(name, {"numbers": "a"}), 400, "invalid_input"),
        (lambda: client.services.show("nobody"), 404, "service_not_found"),
        (lambda: client.models.delete(f"{name}:1"), 409, "in_use"),
        (lambda: client.services.create(name, image=f"{name}:1"), 409, "conflict"),
        (lambda: client.services.update(name, replicas=1, etag='"0"'), 412, "precondition_failed"),
        (lambda: client.services.scale(name, -1), 400, "invalid_option"),
    ]
    for wrong, status, code in mistakes:
        with pytest.raises(Error) as failure:
            wrong()
        assert (failure.value.status, failure.value.code) == (status, code)
        assert failure.value.message

    (fetched,) = client.models.download(f"{name}:1", target)
    assert fetched.read_bytes() == recipe.model(2).read_bytes()
    client.services.delete(name)
    assert name not in [s.name for s in client.services.list()]


def test_the_whole_journey(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    with connect(home=argosy.home) as client:
        journey(client, recipe, "sdk", tmp_path)
        assert client.status().pid == argosy.address["pid"]
        assert {c["state"] for c in client.doctor()["checks"]} <= {"ok", "warn"}


def test_the_whole_journey_awaited(argosy: Argosy, recipe: RecipeFolder, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        client = AsyncClient(home=argosy.home)
        journey(Blocking(client, runner.run), recipe, "sdk-async", tmp_path)
        runner.run(client.close())


def test_many_calls_at_once(argosy: Argosy, recipe: RecipeFolder) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(home=argosy.home) as client:
            await client.services.create(
                "many", model_files=[recipe.model(2)], script=recipe.folder / "score.py", requirements=None
            )
            return list(await asyncio.gather(*(client.services.show("many") for _ in range(20))))

    assert {service.name for service in asyncio.run(ask())} == {"many"}


def test_connecting_by_url_and_token(argosy: Argosy) -> None:
    url, token = argosy.address["url"], (argosy.home / "token").read_text().strip()
    with connect(url, token, home="/nowhere") as client:
        assert client.status().home == str(argosy.home)
    with connect(url, "wrong", home="/nowhere") as client, pytest.raises(Error) as refused:
        client.services.list()
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")
    with pytest.raises(NotRunning, match="argosy up"):
        connect(home="/nowhere")


def test_public_names() -> None:
    assert package.Client is Client
    assert set(package.__all__) >= {"AsyncClient", "Client", "Error", "connect", "schema"}
