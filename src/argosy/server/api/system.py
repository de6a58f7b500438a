"""Health, status, doctor and shutdown."""

import asyncio
import os
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from argosy.records import Check, Status
from argosy.server.control import Control
from argosy.server.doctor import examine
from argosy.server.requests import ShutdownBody


def router(control: Control) -> APIRouter:
    routes = APIRouter(tags=["system"])

    @routes.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/v1/status")
    def status() -> Status:
        return Status(
            version=control.version,
            pid=os.getpid(),
            url=control.url,
            home=str(control.home.path),
            started_at=control.started_at,
            gateway=control.gateway.status(),
            counts={
                "services": len(control.services.names()),
                "replicas": sum(len(control.reconciler.observed(name)) for name in control.services.names()),
            },
        )

    @routes.get("/v1/gateway")
    def gateway() -> dict[str, Any]:
        """HAProxy as it is, and what it counted per service since this control plane started: `counters` has requests,
        responses by class, bytes, retries, connect errors, and the sessions, queue and ready servers of this moment."""
        return {**control.gateway.status(), "counters": control.gateway.counters()}

    @routes.get("/v1/doctor")
    def doctor() -> dict[str, list[Check]]:
        """What is well and what is not, each with what to do."""
        return {"checks": examine(control)}

    @routes.post("/v1/shutdown", status_code=202)
    async def shutdown(body: ShutdownBody) -> JSONResponse:
        """Stop the control plane, and with `services` every replica and the gateway. They come back with the next
        start."""
        asyncio.get_running_loop().call_later(0.1, control.shutdown, body.services)
        return JSONResponse({"state": "stopping", "pid": os.getpid()}, status_code=202)

    return routes
