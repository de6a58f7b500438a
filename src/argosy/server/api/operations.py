"""`/v1/operations`."""

from typing import Annotated

from fastapi import APIRouter, Query

from argosy.records import Operation, Page
from argosy.server.api.answers import Cursor, Limit
from argosy.server.control import Control


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1/operations", tags=["operations"])

    @routes.get("")
    def page(
        limit: Limit = 100, cursor: Cursor = None, subject: str | None = None, state: str | None = None
    ) -> Page[Operation]:
        """Newest first; `subject` is such as `service/iris`."""
        return control.operations.page(limit, cursor, subject, state)

    @routes.get("/{operation}")
    def show(
        operation: str,
        wait_s: Annotated[float, Query(ge=0, le=30, description="answer later, when there is news")] = 0,
        seen: Annotated[int, Query(ge=0, description="messages the caller knows already")] = 0,
    ) -> Operation:
        if wait_s:
            return control.operations.wait(operation, seen, wait_s)
        return control.operations.get(operation)

    return routes
