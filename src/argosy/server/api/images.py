"""`/v1/images`."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from argosy.errors import InvalidOption
from argosy.images.oci.archive import archive
from argosy.images.oci.attachments import attached, needed
from argosy.images.oci.platforms import own_platform, parse_platforms
from argosy.images.oci.tree import reachable
from argosy.records import Image, Operation, Page, Reference, check_name
from argosy.server.api.answers import Cursor, IdempotencyKey, Limit, accepted, reference
from argosy.server.control import Control
from argosy.server.requests import ImageBody


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

        With `builder` oci an OCI image is built on `base` (or the default one) for `platforms` instead.
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
        contents = control.oci.contents(image)
        return replace(image, contents=contents, packages=_packages(control, image))

    @routes.get("/{name}/{version}/archive", response_class=StreamingResponse)
    def save(name: str, version: str, platform: str | None = None) -> StreamingResponse:
        """The OCI image of one platform as one archive, for `podman load` and `docker load`."""
        image = images.get(reference("image", name, version))
        chosen, digest = control.oci.chosen(image, platform)
        layout = control.oci.layout
        for blob in reachable(layout, digest):
            layout.verify(blob)
        size_bytes, content = archive(layout, image.reference, layout.descriptor(digest, chosen))
        headers = {"content-length": str(size_bytes), "etag": f'"{digest}"'}
        return StreamingResponse(content, media_type="application/x-tar", headers=headers)

    @routes.get("/{name}/{version}/sbom")
    def sbom(name: str, version: str, platform: str | None = None) -> dict[str, Any]:
        """The bill of materials of one platform: CycloneDX 1.6."""
        image = images.get(reference("image", name, version))
        return needed(control.oci.layout, control.oci.chosen(image, platform)[1], "sbom")

    @routes.get("/{name}/{version}/provenance")
    def provenance(name: str, version: str, platform: str | None = None) -> dict[str, Any]:
        """What one platform was built from: an in-toto statement with a SLSA provenance."""
        image = images.get(reference("image", name, version))
        return needed(control.oci.layout, control.oci.chosen(image, platform)[1], "provenance")

    @routes.delete("/{name}/{version}", status_code=204)
    def delete(name: str, version: str) -> None:
        """409 while a revision of a service has it."""
        named = Reference.parse("image", f"{name}:{version}")
        control.image_builder.delete(named)
        control.oci.forget(named)

    return routes


def _packages(control: Control, image: Image) -> dict[str, str]:
    """What is installed: by the manifest's lock, or by the bill of materials that came with the image."""
    if image.manifest:
        return control.manifests.get(Reference.parse("manifest", image.manifest)).recipe.lock.packages
    for digest in image.oci.values():
        bill = attached(control.oci.layout, digest, "sbom") or {}
        parts = [
            part
            for part in bill.get("components") or []
            if str(part.get("purl", "")).startswith(("pkg:pypi/", "pkg:conda/"))
        ]
        return {str(part.get("name")): str(part.get("version", "")) for part in parts}
    return {}


def _oci(body: ImageBody) -> dict[str, Any]:
    """What an operation must know to build an OCI image; nothing without a builder."""
    if body.builder is None:
        if body.base is not None or body.platforms:
            raise InvalidOption("--builder", None, "--base and --platform need --builder oci")
        return {}
    platforms = parse_platforms(body.platforms or [own_platform()])
    return {"oci": {"base": body.base, "platforms": [platform.name for platform in platforms]}}
