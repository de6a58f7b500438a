"""`/v1/images`."""

from typing import Any

from fastapi import APIRouter, Response

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
        """Build the environment and the image; the operation's result is `{"image": "name:version"}`."""
        check_name("image", body.name)
        request: dict[str, Any] = {"image_name": body.name, "image_description": body.description}
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
        return images.get(reference("image", name, version))

    @routes.delete("/{name}/{version}", status_code=204)
    def delete(name: str, version: str) -> None:
        """409 while a revision of a service has it."""
        control.image_builder.delete(Reference.parse("image", f"{name}:{version}"))

    return routes
