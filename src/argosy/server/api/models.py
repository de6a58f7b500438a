"""`/v1/blobs` and `/v1/models`."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from argosy.errors import InvalidOption
from argosy.models.request import ModelRequest
from argosy.records import Model, Operation, Page, Reference, check_name, encode
from argosy.server.api.answers import Cursor, IdempotencyKey, Limit, accepted, reference
from argosy.server.control import Control
from argosy.server.requests import AliasBody, ModelBody, ModelChanges


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["models"])
    models = control.models

    @routes.post("/blobs", status_code=201, tags=["blobs"])
    async def upload(request: Request) -> dict[str, str | int]:
        """Store the raw body, to be named by its SHA-256. Blobs that nothing names are removed later."""
        blob = await control.blobs.receive(request.stream(), control.settings.model_limit_bytes)
        return {"sha256": blob.sha256, "size_bytes": blob.size_bytes}

    @routes.get("/models")
    def page(
        limit: Limit = 100,
        cursor: Cursor = None,
        name: str | None = None,
        tag: Annotated[list[str] | None, Query(description="k=v; may be repeated")] = None,
    ) -> Page[Model]:
        """The newest version of each name; all versions of `name` when it is given."""
        return models.page(limit, cursor, name, dict(_tag(text) for text in tag or []))

    @routes.post("/models", status_code=201, responses={202: {"model": Operation}})
    def register(body: ModelBody, idempotency_key: IdempotencyKey = None) -> Response:
        """A new version: from uploaded files (201), or fetched from a URL (202)."""
        if body.url is not None:
            check_name("model", body.name)
            request = body.model_dump(mode="json")
            operation = control.operations.submit("model.fetch", f"fetch/{body.name}", request, idempotency_key, True)
            return accepted(operation)
        fields = body.model_dump(exclude={"url", "files"})
        return JSONResponse(encode(models.register(ModelRequest(files=body.files, **fields))), status_code=201)

    @routes.get("/models/{name}")
    def versions(name: str, limit: Limit = 100, cursor: Cursor = None) -> Page[Model]:
        """All versions, newest first, with who uses each."""
        return models.versions(name, limit, cursor)

    @routes.get("/models/{name}/{version}")
    def show(name: str, version: str) -> Model:
        return models.get(reference("model", name, version))

    @routes.patch("/models/{name}/{version}")
    def update(name: str, version: str, body: ModelChanges) -> Model:
        """Change description, tags and metrics; a value of null removes the entry."""
        return models.update(reference("model", name, version), body.description, body.tags, body.metrics)

    @routes.put("/models/{name}/aliases/{alias}")
    def set_alias(name: str, alias: str, body: AliasBody) -> Model:
        return models.set_alias(name, alias, body.version)

    @routes.delete("/models/{name}/aliases/{alias}", status_code=204)
    def unset_alias(name: str, alias: str) -> None:
        models.unset_alias(name, alias)

    @routes.get("/models/{name}/{version}/files/{path:path}", response_class=FileResponse)
    def download(name: str, version: str, path: str) -> FileResponse:
        entry = models.file(reference("model", name, version), path)
        return file_answer(control, entry.sha256, path)

    @routes.delete("/models/{name}/{version}", status_code=204)
    def delete(name: str, version: str) -> None:
        """409 while a manifest uses it."""
        models.delete(Reference.parse("model", f"{name}:{version}"))

    return routes


def file_answer(control: Control, sha256: str, path: str) -> FileResponse:
    """The blob as a download, never shown by a browser. StorageFailed when it is gone."""
    control.blobs.open(sha256).close()
    name = quote(path.rpartition("/")[2])
    return FileResponse(
        control.blobs.path(sha256),
        media_type="application/octet-stream",
        headers={
            "content-disposition": f"attachment; filename*=utf-8''{name}",
            "x-content-type-options": "nosniff",
            "etag": f'"{sha256}"',
        },
    )


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidOption("tag", text, "write KEY=VALUE")
    return key, value
