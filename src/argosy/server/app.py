"""The REST API as an ASGI app: authentication, the one error shape, and the routers of the nouns."""

import errno
import json
import logging
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from argosy.errors import Error, StorageFailed, SystemFailure, Unauthorized, UserError
from argosy.keys import key_hash, same
from argosy.server.api import (
    environments,
    images,
    manifests,
    models,
    operations,
    registries,
    services,
    system,
    transfers,
)
from argosy.server.control import Control

log = logging.getLogger(__name__)

_TEXT = {"type": "string"}
_ERROR_RESPONSE = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details"],
            "properties": {"code": _TEXT, "message": _TEXT, "details": {"type": "object"}},
        }
    },
}
# The largest body that is read whole; files go to /v1/blobs, which has a limit of its own and streams.
_BODY_LIMIT_BYTES = 64_000_000
_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css")


def build_app(control: Control, token: str, version: str) -> ASGIApp:
    """Everything below `/v1` needs the token as `Authorization: Bearer`; health and documents do not."""
    app = FastAPI(
        title="Argosy control plane",
        version=version,
        description="Models, manifests, images, registries, environments, services and operations.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    for module in (models, manifests, transfers, images, registries, environments, services, operations, system):
        app.include_router(module.router(control))
    _documents(app)
    app.add_exception_handler(Error, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(OSError, _answer_os_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_defect)
    _declare(app)
    return _Authenticated(_Bounded(app), token)


class _Authenticated:
    """Refuses what has no valid token before anything of the request is read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token_hash = key_hash(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1"):
            kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not same(key_hash(token.strip()), self._token_hash):
                refusal = JSONResponse(
                    Unauthorized().body(),
                    status_code=401,
                    headers={"www-authenticate": "Bearer", "connection": "close"},
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Bounded:
    """Refuses a body that is longer than any request needs, before it fills the memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/v1/blobs":
            await self._app(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > _BODY_LIMIT_BYTES:
                raise HTTPException(413, f"the body is larger than the limit of {_BODY_LIMIT_BYTES:,} bytes")
            return message

        await self._app(scope, bounded, send)


class _Answer(JSONResponse):
    """An error, in ASCII: what a client sent may hold half a character, which UTF-8 has no bytes for."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


def _documents(app: FastAPI) -> None:
    folder = Path(str(resources.files("argosy_serving") / "static"))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Argosy REST API",
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="data:,",
        )

    @app.get("/docs/{name}", include_in_schema=False)
    def asset(name: str) -> FileResponse:
        if name not in _ASSETS:
            raise HTTPException(404)
        return FileResponse(folder / name)


def _declare(app: FastAPI) -> None:
    """Say in the OpenAPI document what `_Authenticated` asks for, and how every error looks."""
    document = app.openapi()
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["ErrorResponse"] = _ERROR_RESPONSE
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    for path, methods in document["paths"].items():
        for method in methods.values():
            if path.startswith("/v1"):
                method["security"] = [{"token": []}]
            method["responses"].pop("422", None)  # it has the one shape too
            method["responses"]["default"] = {"description": "What happened, and what to do next.", "content": content}


def _answer_error(_request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, Error)
    return _Answer(problem.body(), status_code=problem.status)


def _answer_validation(_request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, RequestValidationError)
    wrong = [{"field": "/".join(str(p) for p in e["loc"]), "problem": e["msg"]} for e in problem.errors()[:20]]
    first = wrong[0] if wrong else {"field": "body", "problem": "it cannot be read"}
    error = UserError(f"The request does not validate: {first['field']}: {first['problem']}", {"fields": wrong})
    return _Answer(error.body(), status_code=422)


def _answer_http(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    sentence = f"{request.method} {request.url.path}: {problem.detail}. /docs lists what there is."
    code = codes.get(problem.status_code, "invalid_request")
    body = {"error": {"code": code, "message": sentence, "details": {}}}
    return _Answer(body, status_code=problem.status_code, headers=problem.headers)


def _answer_os_error(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, OSError)
    if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return _answer_defect(request, problem)
    error = StorageFailed(f"{problem.strerror} ({problem.filename}). Free some space or make the folder writable.")
    return _answer_error(request, error)


def _answer_nobody(_request: Request, _problem: Exception) -> JSONResponse:
    """The client went away while it sent: nobody reads this."""
    return _Answer(UserError("The body ended before it was whole.").body(), status_code=400)


def _answer_defect(request: Request, problem: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=problem)
    error: dict[str, Any] = SystemFailure(
        f"This is a defect of Argosy: {type(problem).__name__}. The control plane's log has more."
    ).body()
    return _Answer(error, status_code=500)
