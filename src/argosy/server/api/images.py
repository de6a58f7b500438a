"""`/v1/images`."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from argosy.errors import InvalidOption
from argosy.images.oci.archive import archive
from argosy.images.oci.platforms import own_platform, parse_platforms
from argosy.records import Image, Operation, Page, Reference, check_name
from argosy.server.api.answers import Cursor, IdempotencyKey, Limit, accepted, reference
from argosy.server.control import Control
from argosy.server.requests import ImageBody, ImageRunBody


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1/images", tags=["images"])
    images = control.images

    @routes.get("")
    def page(limit: Limit = 100, cursor: Cursor = None) -> Page[Image]:
        """The newest version of each name."""
        return images.page(limit, cursor)

    @routes.post("", status_code=202, response_model=Operation)
    def create(body: ImageBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Build the environment and the image; the operation's result is `{"image": "name:version"}`.

        With `builder` oci an OCI image is built on `base` for `platforms` instead of the environment.
        """
        check_name("image", body.name)
        request: dict[str, Any] = {"image_name": body.name, "image_description": body.description, **_oci(body)}
        if isinstance(body.manifest, str):
            manifest = control.manifests.get(Reference.parse("manifest", body.manifest))
            request["manifest"] = manifest.reference
        else:
            request["recipe"] = {"name": body.name, **body.manifest.stored()}
        return accepted(control.operations.submit("image.create", f"image/{body.name}", request, idempotency_key))

    @routes.get("/{name}")
    def versions(name: str, limit: Limit = 100, cursor: Cursor = None) -> Page[Image]:
        return images.page(limit, cursor, name)

    @routes.get("/{name}/{version}")
    def show(name: str, version: str) -> Image:
        image = images.get(reference("image", name, version))
        return replace(image, contents=control.oci.contents(image))

    @routes.get("/{name}/{version}/archive", response_class=StreamingResponse)
    def save(name: str, version: str, platform: str | None = None) -> StreamingResponse:
        """The OCI image of one platform as one archive, for `podman load` and `docker load`."""
        image = images.get(reference("image", name, version))
        chosen, digest = control.oci.chosen(image, platform)
        layout = control.oci.layout
        size_bytes, content = archive(layout, image.reference, layout.descriptor(digest, chosen))
        headers = {"content-length": str(size_bytes), "etag": f'"{digest}"'}
        return StreamingResponse(content, media_type="application/x-tar", headers=headers)

    @routes.post("/{name}/{version}/run", status_code=202, response_model=Operation)
    def run(name: str, version: str, body: ImageRunBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Start one replica, ask it a sample, stop it; the operation's result is `{"image", "run": {...}}`."""
        image = images.get(reference("image", name, version))
        if body.environment is not None:
            control.environments.get(body.environment)
        if body.sample is not None and "input" not in body.sample:
            raise InvalidOption("sample", sorted(body.sample), "it must have `input`, and may have `output`")
        request = {"image": image.reference, **body.model_dump(mode="json")}
        subject = f"image/{image.reference}/run"
        return accepted(control.operations.submit("image.run", subject, request, idempotency_key))

    @routes.delete("/{name}/{version}", status_code=204)
    def delete(name: str, version: str) -> None:
        """409 while a revision of a service has it."""
        named = Reference.parse("image", f"{name}:{version}")
        control.image_builder.delete(named)
        control.oci.forget(named)

    return routes


def _oci(body: ImageBody) -> dict[str, Any]:
    """What an operation must know to build an OCI image; nothing without a builder."""
    if body.builder is None:
        if body.base is not None or body.platforms:
            raise InvalidOption("--builder", None, "--base and --platform need --builder oci")
        return {}
    if body.base is None:
        raise InvalidOption("--base", None, "--builder oci needs a base image: oci:DIR[:TAG], oci-archive:FILE ...")
    platforms = parse_platforms(body.platforms or [own_platform()])
    return {"oci": {"base": body.base, "platforms": [platform.name for platform in platforms]}}
