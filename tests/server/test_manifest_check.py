"""`POST /v1/manifests/check`: asked before models are registered for a recipe."""

from typing import Any

import pytest

from argosy.records import encode
from server.plane import Plane
from store.shelf import Shelf


def recipe(shelf: Shelf, script: bytes = b"def run(body): return body\n", **more: Any) -> dict[str, Any]:
    return {"name": "iris", "script": "score.py", "files": encode([shelf.file("score.py", script)]), **more}


def test_a_recipe_that_only_lacks_its_models(still: Plane) -> None:
    reply = still.client.post("/v1/manifests/check", json=recipe(still.shelf, requirements="joblib\n"))
    assert reply.status_code == 200
    assert any("no sample" in note for note in reply.json()["notes"])
    assert still.client.get("/v1/manifests").json()["items"] == []


@pytest.mark.parametrize(
    ("script", "more", "code"),
    [
        (b"def init(:\n", {}, "invalid_script"),
        (b"def init(): pass\n", {}, "invalid_script"),
        (b"def run(body): ...\n", {"requirements": "not a requirement at all\n"}, "invalid_dependencies"),
        (b"def run(body): ...\n", {"conda": "dependencies: [unclosed\n"}, "invalid_dependencies"),
        (b"def run(body): ...\n", {"runtime": "python:3.5"}, "invalid_option"),
        (b"def run(body): ...\n", {"schema": {"input": {"x": {"type": "none"}}}}, "invalid_schema"),
        (b"def run(body): ...\n", {"secrets": {"K": "the-value"}}, "invalid_option"),
        (b"def run(body): ...\n", {"models": ["nobody:1"]}, "model_not_found"),
    ],
)
def test_what_is_refused(still: Plane, script: bytes, more: dict[str, Any], code: str) -> None:
    reply = still.client.post("/v1/manifests/check", json=recipe(still.shelf, script, **more))
    assert (reply.status_code // 100, reply.json()["error"]["code"]) == (4, code)
