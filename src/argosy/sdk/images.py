"""Images: what runs, made from a manifest."""

from typing import Any, Unpack

from argosy.errors import InvalidOption
from argosy.records import Image, Operation, Reference, check_name
from argosy.sdk import operations, recipes
from argosy.sdk.files import Progress
from argosy.sdk.models import explicit, versioned
from argosy.sdk.operations import OnMessage
from argosy.sdk.recipes import RecipeOptions
from argosy.sdk.wire import Flow, Request, all_pages, call, call_record, path_of


def create(
    name: str,
    *,
    manifest: str | None = None,
    description: str = "",
    wait: bool = True,
    on_message: OnMessage | None = None,
    on_progress: Progress | None = None,
    **recipe: Unpack[RecipeOptions],
) -> Flow[Operation]:
    """From a manifest, or from a recipe that becomes the manifest `name`; the result is `{"image": "iris:1"}`."""
    check_name("image", name)
    source: Any
    if manifest is not None and recipes.given(recipe):
        raise InvalidOption("manifest", manifest, "give either a manifest or the options of a new one, not both")
    if manifest is not None:
        source = str(Reference.parse("manifest", manifest))
    else:
        source = yield from recipes.send(recipes.plan(name, recipe), on_progress, on_message)
    body = {"name": name, "manifest": source, "description": description}
    request = Request("POST", path_of("images"), json=body, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))


def list_all() -> Flow[list[Image]]:
    """The latest version of each name."""
    return (yield from all_pages(Image, path_of("images")))


def versions(name: str) -> Flow[list[Image]]:
    """All versions, newest first."""
    return (yield from all_pages(Image, path_of("images", check_name("image", name))))


def show(reference: str) -> Flow[Image]:
    return (yield from call_record(Image, Request("GET", versioned("images", "image", reference))))


def delete(reference: str) -> Flow[None]:
    """One version, which must be named."""
    image = yield from show(explicit("image", reference))
    yield from call(Request("DELETE", path_of("images", image.name, image.version)))
