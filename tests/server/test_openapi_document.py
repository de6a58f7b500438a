"""The control plane's own OpenAPI document: valid, whole, and true about authentication."""

from typing import Any

import pytest
from openapi_spec_validator import validate

from server.plane import Plane


@pytest.fixture
def document(plane: Plane) -> dict[str, Any]:
    found: dict[str, Any] = plane.stranger.get("/openapi.json").json()
    return found


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_it_says_what_needs_the_token(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for path, ways in document["paths"].items():
        for method, operation in ways.items():
            wanted: list[dict[str, list[str]]] | None = [{"token": []}] if path.startswith("/v1") else None
            assert operation.get("security") == wanted, (method, path)


def test_every_operation_has_a_name_of_its_own_and_a_noun(document: dict[str, Any]) -> None:
    operations = [operation for ways in document["paths"].values() for operation in ways.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["tags"] for operation in operations)


@pytest.mark.parametrize(
    "path",
    [
        "/healthz", "/v1/status", "/v1/blobs", "/v1/models", "/v1/models/{name}", "/v1/models/{name}/{version}",
        "/v1/models/{name}/aliases/{alias}", "/v1/models/{name}/{version}/files/{path}", "/v1/manifests",
        "/v1/manifests/{name}/{version}/files/{path}", "/v1/images", "/v1/images/{name}/{version}",
        "/v1/registries", "/v1/registries/{host}",
        "/v1/environments/{name}", "/v1/services/{name}", "/v1/services/{name}/keys",
        "/v1/services/{name}/keys/{slot}", "/v1/services/{name}/usage", "/v1/services/{name}/history",
        "/v1/services/{name}/rollback", "/v1/services/{name}/logs", "/v1/operations", "/v1/operations/{operation}",
    ],
)  # fmt: skip
def test_what_the_architecture_promises_is_there(document: dict[str, Any], path: str) -> None:
    assert path in document["paths"]


def test_long_work_answers_with_an_operation(document: dict[str, Any]) -> None:
    accepted = [
        (path, operation["responses"]["202"])
        for path, ways in document["paths"].items()
        for operation in ways.values()
        if "202" in operation["responses"] and path != "/v1/shutdown"
    ]
    assert len(accepted) == 14
    for path, answer in accepted:
        schema = answer["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Operation"}, path
