"""`/v1/operations`."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query

from argosy.records import Operation, Page
from argosy.server.api.answers import Cursor, Limit
from argosy.server.control import Control

_LOOK_EVERY_S = 0.1


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1/operations", tags=["operations"])

    @routes.get("")
    def page(
        limit: Limit = 100, cursor: Cursor = None, subject: str | None = None, state: str | None = None
    ) -> Page[Operation]:
        """Newest first; `subject` is such as `service/iris`."""
        return control.operations.page(limit, cursor, subject, state)

    @routes.get("/{operation}")
    async def show(
        operation: str,
        wait_s: Annotated[float, Query(ge=0, le=30, description="answer later, when there is news")] = 0,
        seen: Annotated[int, Query(ge=0, description="messages the caller knows already")] = 0,
    ) -> Operation:
        # Polled from the loop: a waiting caller holds no thread.
        deadline = time.monotonic() + wait_s
        while True:
            found = await asyncio.to_thread(control.operations.get, operation)
            news = found.done or len(found.messages) > seen or control.operations.stopping.is_set()
            if news or time.monotonic() >= deadline:
                return found
            await asyncio.sleep(_LOOK_EVERY_S)

    return routes
