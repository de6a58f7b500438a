"""Images on their way: to and from registries, out of archives; and what is attached to them."""

import os
from collections.abc import Sequence
from typing import Any

from argosy.records import Operation, check_name
from argosy.sdk import operations
from argosy.sdk.files import Progress, single, upload
from argosy.sdk.images import show
from argosy.sdk.models import versioned
from argosy.sdk.operations import OnMessage
from argosy.sdk.wire import Flow, Request, call_json, path_of


def push(
    reference: str,
    destination: str | None = None,
    *,
    tags: Sequence[str] = (),
    wait: bool = True,
    on_message: OnMessage | None = None,
) -> Flow[Operation]:
    """All platforms, with what is attached to them, to `HOST/PATH[:TAG]`; the result is `{"pushed": [...], "digest"}`.

    Without a destination below the setting `registry`. The tag is the image's version unless `destination` or `tags`
    say otherwise.
    """
    image = yield from show(reference)
    path = f"{path_of('images', image.name, image.version)}/push"
    body = {"destination": destination, "tags": list(tags)}
    request = Request("POST", path, json=body, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))


def pull(
    reference: str,
    *,
    name: str | None = None,
    platforms: Sequence[str] = (),
    wait: bool = True,
    on_message: OnMessage | None = None,
) -> Flow[Operation]:
    """An image that Argosy built, from a registry; the result is `{"image": "iris:1"}`. `name` is what it is called
    here, by default the last part of `reference`. All its platforms, or those that are named."""
    if name is not None:
        check_name("image", name)
    body = {"reference": reference, "name": name, "platforms": list(platforms)}
    path = f"{path_of('images')}/pull"
    request = Request("POST", path, json=body, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))


def load(
    archive: str | os.PathLike[str],
    *,
    name: str | None = None,
    tag: str = "",
    wait: bool = True,
    on_message: OnMessage | None = None,
    on_progress: Progress | None = None,
) -> Flow[Operation]:
    """An image that Argosy built, from an OCI archive or what `docker save` writes; the result is
    `{"image": "iris:1"}`.

    `name` is what it is called here, by default what the archive calls it; `tag` chooses one of several images.
    """
    if name is not None:
        check_name("image", name)
    file = single(archive)
    (entry,) = yield from upload([file], on_progress)
    body = {"sha256": entry.sha256, "file": file.path, "name": name, "tag": tag}
    path = f"{path_of('images')}/load"
    request = Request("POST", path, json=body, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))


def sbom(reference: str, *, platform: str | None = None) -> Flow[dict[str, Any]]:
    """The bill of materials of one platform: CycloneDX 1.6."""
    path = f"{versioned('images', 'image', reference)}/sbom"
    return dict((yield from call_json(Request("GET", path, query={"platform": platform}))))


def provenance(reference: str, *, platform: str | None = None) -> Flow[dict[str, Any]]:
    """What one platform was built from: an in-toto statement with a SLSA provenance. It is not signed."""
    path = f"{versioned('images', 'image', reference)}/provenance"
    return dict((yield from call_json(Request("GET", path, query={"platform": platform}))))
