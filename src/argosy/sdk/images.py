"""Images: what runs, made from a manifest."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from argosy.errors import InvalidOption
from argosy.records import Image, Operation, Reference, check_name
from argosy.sdk import downloads, operations, recipes
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
    builder: str | None = None,
    base_image: str | None = None,
    platforms: Sequence[str] = (),
    wait: bool = True,
    on_message: OnMessage | None = None,
    on_progress: Progress | None = None,
    **recipe: Unpack[RecipeOptions],
) -> Flow[Operation]:
    """From a manifest, or from a recipe that becomes the manifest `name`; the result is `{"image": "iris:1"}`.

    `builder` "oci" makes an OCI image on `base_image` (`oci:DIR[:TAG]`, `oci-archive:FILE`, `docker-archive:FILE`, with
    paths of the control plane's machine) for `platforms` such as `linux/arm64`, by default the control plane's own.
    """
    check_name("image", name)
    source: Any
    if manifest is not None and recipes.given(recipe):
        raise InvalidOption("manifest", manifest, "give either a manifest or the options of a new one, not both")
    if manifest is not None:
        source = str(Reference.parse("manifest", manifest))
    else:
        source = yield from recipes.send(recipes.plan(name, recipe), on_progress, on_message)
    body = {"name": name, "manifest": source, "description": description}
    oci = {"builder": builder, "base": base_image, "platforms": list(platforms)}
    body |= {key: value for key, value in oci.items() if value}
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


def save(
    reference: str,
    target: str | os.PathLike[str],
    *,
    platform: str | None = None,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Flow[Path]:
    """The OCI image of one platform as the archive `target`, which `podman load` and `docker load` accept."""
    image = yield from show(reference)
    path = f"{path_of('images', image.name, image.version)}/archive"
    total = sum(layer.size_bytes for it in image.contents if platform in (None, it.platform) for layer in it.layers)
    return (yield from downloads.fetch_archive(path, {"platform": platform}, target, overwrite, total, on_progress))


def run(
    reference: str,
    *,
    sample: recipes.PathLike | Mapping[str, Any] | None = None,
    environment: str | None = None,
    wait: bool = True,
    on_message: OnMessage | None = None,
) -> Flow[Operation]:
    """Start one replica, score `sample` (the manifest's first by default), stop it. The result is `{"image", "run":
    {"ok", "where", "failure", "load_s", "answers", "log"}}`; one that does not work is a result, not an error."""
    path = versioned("images", "image", reference)
    body: dict[str, Any] = {}
    if sample is not None:
        body["sample"] = recipes.read_sample(sample)
    if environment is not None:
        body["environment"] = check_name("environment", environment)
    request = Request("POST", f"{path}/run", json=body, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))


def delete(reference: str) -> Flow[None]:
    """One version, which must be named."""
    image = yield from show(explicit("image", reference))
    yield from call(Request("DELETE", path_of("images", image.name, image.version)))
