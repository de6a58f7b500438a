"""Images: what runs, made from a manifest."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from argosy.errors import InvalidOption
from argosy.records import Image, ImageUsage, Operation, Reference, check_name
from argosy.sdk import downloads, files, operations, recipes
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
    docker_steps: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    wait: bool = True,
    on_message: OnMessage | None = None,
    on_progress: Progress | None = None,
    **recipe: Unpack[RecipeOptions],
) -> Flow[Operation]:
    """From a manifest, or from a recipe that becomes the manifest `name`; the result is `{"image": "iris:1"}`.

    `builder` "oci" makes an OCI image on `base_image` (`oci:DIR[:TAG]`, `oci-archive:FILE`, `docker-archive:FILE`, with
    paths of the control plane's machine, or an image of a registry; by default the setting of that name) for
    `platforms` such as `linux/arm64`, by default the control plane's own. "docker" runs the steps of the file
    `docker_steps` on the base before, with the Docker or Podman of that machine; `fresh` runs also those that an
    earlier build has kept.
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
    oci = {"builder": builder, "base": base_image, "platforms": list(platforms), "fresh": fresh}
    if docker_steps is not None:
        oci |= {"docker_steps": files.read_text(docker_steps), "docker_steps_name": os.fspath(docker_steps)}
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


def usage(
    reference: str, *, platform: str | None = None, elsewhere: str | None = None, port: int | None = None
) -> Flow[ImageUsage]:
    """How to run an OCI image where there is no Argosy; `elsewhere` is its name in a registry, if it has one."""
    path = f"{versioned('images', 'image', reference)}/usage"
    query = {"platform": platform, "elsewhere": elsewhere, "port": port}
    return (yield from call_record(ImageUsage, Request("GET", path, query=query)))


def dockerfile(reference: str, *, platform: str | None = None) -> Flow[str]:
    """What builds the image by hand; `build_context` fetches it with all it needs."""
    path = f"{versioned('images', 'image', reference)}/dockerfile"
    response = yield from call(Request("GET", path, query={"platform": platform}))
    return response.content.decode()


def build_context(
    reference: str,
    target: str | os.PathLike[str],
    *,
    platform: str | None = None,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Flow[Path]:
    """The Dockerfile of an OCI image with all it needs beside it as the archive `target`."""
    path = f"{versioned('images', 'image', reference)}/context"
    return (yield from downloads.fetch_archive(path, {"platform": platform}, target, overwrite, 0, on_progress))


def logs(reference: str) -> Flow[str]:
    """What the steps of a build wrote: of a version, or with a name alone of the last build, also one that failed."""
    named = Reference.parse("image", reference)
    version = () if named.version is None else (named.version,)
    path = path_of("images", named.name, *version, "log")
    response = yield from call(Request("GET", path))
    return response.content.decode("utf-8", "replace")


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
