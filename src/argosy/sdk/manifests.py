"""Manifests: frozen recipes with their dependency lock."""

import os
from pathlib import Path
from typing import Unpack
from urllib.parse import quote

from argosy.records import Manifest, Operation, check_name
from argosy.sdk import downloads, operations, recipes
from argosy.sdk.files import Progress
from argosy.sdk.models import explicit, versioned
from argosy.sdk.operations import OnMessage
from argosy.sdk.recipes import RecipeOptions
from argosy.sdk.wire import Flow, Request, all_pages, call, call_record, path_of


def create(
    name: str,
    *,
    description: str = "",
    wait: bool = True,
    on_message: OnMessage | None = None,
    on_progress: Progress | None = None,
    **recipe: Unpack[RecipeOptions],
) -> Flow[Operation]:
    """The next version of `name`; its operation's result is `{"manifest": "iris:1"}`. Options: RecipeOptions."""
    plan = recipes.plan(name, recipe, description)
    body = yield from recipes.send(plan, on_progress, on_message)
    request = Request("POST", path_of("manifests"), json=body, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))


def list_all() -> Flow[list[Manifest]]:
    """The latest version of each name."""
    return (yield from all_pages(Manifest, path_of("manifests")))


def versions(name: str) -> Flow[list[Manifest]]:
    """All versions, newest first."""
    return (yield from all_pages(Manifest, path_of("manifests", check_name("manifest", name))))


def show(reference: str) -> Flow[Manifest]:
    return (yield from call_record(Manifest, Request("GET", versioned("manifests", "manifest", reference))))


def script(reference: str) -> Flow[str]:
    """The text of the scoring script."""
    manifest = yield from show(reference)
    path = f"{path_of('manifests', manifest.name, manifest.version)}/files/{quote(manifest.recipe.script)}"
    return (yield from call(Request("GET", path))).content.decode(errors="replace")


def delete(reference: str) -> Flow[None]:
    """One version, which must be named."""
    manifest = yield from show(explicit("manifest", reference))
    yield from call(Request("DELETE", path_of("manifests", manifest.name, manifest.version)))


def download(
    reference: str,
    target: str | os.PathLike[str] = ".",
    *,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Flow[list[Path]]:
    """The scoring script and its files into the folder `target`; as for models."""
    manifest = yield from show(reference)
    base = path_of("manifests", manifest.name, manifest.version)
    return (yield from downloads.fetch(base, manifest.recipe.files, target, overwrite, on_progress))
