"""What several nouns share in their requests and answers."""

from typing import Annotated

from fastapi import Header, Query
from fastapi.responses import JSONResponse

from argosy.records import Operation, Reference, check_name, encode

Limit = Annotated[int, Query(ge=1, le=500, description="how many items at most")]
Cursor = Annotated[str | None, Query(description="`next` of the page before")]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]


def accepted(operation: Operation) -> JSONResponse:
    """202 with the operation and where to follow it."""
    return JSONResponse(
        encode(operation), status_code=202, headers={"operation-location": f"/v1/operations/{operation.id}"}
    )


def reference(noun: str, name: str, version: str) -> Reference:
    """From the two path segments: a number, `latest` or an alias."""
    check_name(noun, name)
    if version == "latest":
        return Reference(name)
    return Reference.parse(noun, f"{name}:{version}" if version.isdigit() else f"{name}@{version}")
