"""`/v1/manifests`."""

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from argosy.errors import InvalidOption, NotFound
from argosy.records import Manifest, Operation, Page, Reference, check_name
from argosy.server.api.answers import Cursor, IdempotencyKey, Limit, accepted, reference
from argosy.server.api.models import file_answer
from argosy.server.control import Control
from argosy.server.requests import ManifestBody


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1/manifests", tags=["manifests"])
    manifests = control.manifests

    @routes.get("")
    def page(limit: Limit = 100, cursor: Cursor = None) -> Page[Manifest]:
        """The newest version of each name."""
        return manifests.page(limit, cursor)

    @routes.post("", status_code=202, response_model=Operation)
    def create(body: ManifestBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Resolve the dependencies and freeze the recipe; the operation's result is `{"manifest": "name:version"}`."""
        if body.name is None:
            raise InvalidOption("name", None, "a manifest needs a name")
        check_name("manifest", body.name)
        request = {"recipe": body.stored()}
        return accepted(control.operations.submit("manifest.create", f"manifest/{body.name}", request, idempotency_key))

    @routes.post("/check")
    def check(body: ManifestBody) -> dict[str, list[str]]:
        """Refuse what `POST /v1/manifests` would refuse before it resolves dependencies; models may be missing yet."""
        return {"notes": control.recipes.check({"name": body.name or "", **body.stored()})}

    @routes.get("/{name}")
    def versions(name: str, limit: Limit = 100, cursor: Cursor = None) -> Page[Manifest]:
        return manifests.page(limit, cursor, name)

    @routes.get("/{name}/{version}")
    def show(name: str, version: str) -> Manifest:
        return manifests.get(reference("manifest", name, version))

    @routes.get("/{name}/{version}/files/{path:path}", response_class=FileResponse)
    def download(name: str, version: str, path: str) -> FileResponse:
        manifest = manifests.get(reference("manifest", name, version))
        for entry in manifest.recipe.files:
            if entry.path == path:
                return file_answer(control, entry.sha256, path)
        raise NotFound("file", f"{manifest.reference}/{path}")

    @routes.post("/{name}/{version}/test", status_code=202, response_model=Operation)
    def test(name: str, version: str, idempotency_key: IdempotencyKey = None) -> Response:
        """Answer the samples in the image's own environment; the operation's result is `{"test": {...}}`."""
        manifest = manifests.get(reference("manifest", name, version))
        subject = f"manifest/{manifest.reference}"
        request = {"manifest": manifest.reference}
        return accepted(control.operations.submit("manifest.test", subject, request, idempotency_key))

    @routes.delete("/{name}/{version}", status_code=204)
    def delete(name: str, version: str) -> None:
        """409 while an image uses it."""
        manifests.delete(Reference.parse("manifest", f"{name}:{version}"))

    return routes
