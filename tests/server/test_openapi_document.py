"""The control plane's own OpenAPI document: valid, whole, and true about authentication."""

import re
from pathlib import Path
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


def test_the_architecture_lists_what_is_there(document: dict[str, Any]) -> None:
    """The table of docs/architecture.md, whatever it calls the parameters."""
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    table = text.partition("## REST API of the control plane")[2]
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    listed = {plain(call) for row in rows for call in re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^` ]*)", row)}
    there = {plain(f"{method.upper()} {path}") for path, ways in document["paths"].items() for method in ways}
    assert listed == there


def plain(call: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", call)


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
