"""The whole journey over the documented REST API, with nothing but HTTP."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.calls import Reply, call
from e2e.running import REQUIREMENTS, SCHEMA, SCORE, Argosy, RecipeFolder

CONTRACT = Path(__file__).parents[2] / "docs" / "architecture.md"
Api = Callable[..., Reply]


@pytest.fixture(scope="module")
def api(argosy: Argosy) -> Api:
    """`api("POST /v1/models", body, status)`: the reply, whose status must be that one."""
    url, token = argosy.address["url"], (argosy.home / "token").read_text().strip()

    def ask(what: str, body: Any = None, status: int = 200, **headers: str) -> Reply:
        method, path = what.split(" ")
        reply = call(
            url + path,
            body,
            method=method,
            token=token,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        assert reply.status == status, f"{what}: {reply.status} {reply.content.decode()}"
        return reply

    return ask


def upload(api: Api, path: str, content: bytes) -> dict[str, Any]:
    made = api("POST /v1/blobs", content, 201, content_type="application/octet-stream").json
    assert made == {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    return {"path": path, **made}


def done(api: Api, reply: Reply) -> Any:
    """The result of a 202, when its operation has succeeded."""
    operation, location = reply.json, reply.headers["operation-location"]
    path = location[location.index("/v1/") :]
    assert path.endswith(operation["id"])
    while operation["state"] in ("pending", "running"):
        operation = api(f"GET {path}?wait_s=10").json
    assert operation["state"] == "succeeded", operation["error"]
    return operation["result"]


def test_the_document_has_every_call_of_the_contract(argosy: Argosy) -> None:
    document = call(f"{argosy.address['url']}/openapi.json").json
    there = {
        (method.upper(), re.sub(r"\{[^}]*\}", "{}", path))
        for path, methods in document["paths"].items()
        for method in methods
    }
    promised = set()
    table = CONTRACT.read_text().partition("## REST API")[2]
    for text in re.findall(r"^\| (`[A-Z]+ /[^|]*) \|", table, re.MULTILINE):
        found = re.findall(r"`(?:([A-Z]+) )?(/[^`]*)`", text)
        for method, path in found:
            promised.add((method or found[0][0], re.sub(r"\{[^}]*\}", "{}", path)))
    assert len(promised) > 30
    assert promised - there == set()


def test_the_whole_journey(argosy: Argosy, api: Api, recipe: RecipeFolder) -> None:
    entries = [upload(api, "model.joblib", recipe.model(factor).read_bytes()) for factor in (2, 3)]
    body: dict[str, Any] = {
        "name": "rest",
        "kind": "file",
        "files": entries[:1],
        "tags": {"stage": "dev"},
        "metrics": {"f1": 0.5},
    }
    model = api("POST /v1/models", body, 201).json
    assert (model["name"], model["version"], model["tags"]) == ("rest", 1, {"stage": "dev"})
    api("PUT /v1/models/rest/aliases/production", {"version": 1})
    assert api("GET /v1/models/rest/production").json["version"] == 1
    changed = api("PATCH /v1/models/rest/1", {"tags": {"stage": None, "owner": "ann"}, "description": "x"}).json
    assert (changed["tags"], changed["description"]) == ({"owner": "ann"}, "x")
    assert [m["name"] for m in api("GET /v1/models?tag=owner=ann").json["items"]] == ["rest"]
    file = api("GET /v1/models/rest/1/files/model.joblib")
    assert hashlib.sha256(file.content).hexdigest() == entries[0]["sha256"]
    assert file.headers["content-disposition"].startswith("attachment")

    wish = {
        "name": "rest",
        "models": ["rest@production"],
        "script": "score.py",
        "files": [upload(api, "score.py", SCORE.encode())],
        "requirements": REQUIREMENTS,
        "schema": SCHEMA,
        "environment": {"K": "V"},
    }
    assert done(api, api("POST /v1/manifests", wish, 202)) == {"manifest": "rest:1"}
    manifest = api("GET /v1/manifests/rest/1").json
    assert manifest["recipe"]["schema"] == SCHEMA
    assert api("GET /v1/manifests/rest/1/files/score.py").content == SCORE.encode()
    image = done(api, api("POST /v1/images", {"name": "rest", "manifest": "rest:1"}, 202))
    assert image["image"] == "rest:1"

    body = {"name": "rest", "environment": "local", "image": "rest:1", "replicas": 1, "settings": {}}
    first = api("POST /v1/services", body, 202, Idempotency_Key="once")
    again = api("POST /v1/services", body, 202, Idempotency_Key="once")
    assert first.json["id"] == again.json["id"]
    result = done(api, first)
    assert (result["service"], result["revision"]) == ("rest", 1)
    shown = api("GET /v1/services/rest")
    service = shown.json
    assert (service["state"], service["image"], service["models"]) == ("healthy", "rest:1", ["rest:1"])
    assert shown.headers["etag"] == service["etag"]
    keys = api("GET /v1/services/rest/keys").json
    usage = api("GET /v1/services/rest/usage").json
    reply = call(usage["scoring_url"], usage["sample"], token=keys["primary"])
    assert reply.json == [2.0, 4.0]
    assert (reply.headers["x-argosy-revision"], reply.headers["x-argosy-model"]) == ("1", "rest:1")
    assert set(re.findall(r"(\w+);dur=", reply.headers["server-timing"])) == {"queue", "decode", "run", "encode"}

    api("POST /v1/models", {"name": "rest", "files": entries[1:]}, 201)
    api("PATCH /v1/services/rest", {"replicas": 3}, 412, If_Match='"0"')
    done(api, api("PATCH /v1/services/rest", {"models": ["rest:2"]}, 202, If_Match=service["etag"]))
    assert call(usage["scoring_url"], {"numbers": [1]}, token=keys["secondary"]).json == [3.0]
    assert [r["number"] for r in api("GET /v1/services/rest/history").json["items"]] == [2, 1]
    done(api, api("POST /v1/services/rest/rollback", {"to": None}, 202))
    assert call(usage["scoring_url"], {"numbers": [1]}, token=keys["secondary"]).json == [2.0]
    new = api("POST /v1/services/rest/keys/primary", b"").json
    assert (new["primary"] != keys["primary"], new["secondary"]) == (True, keys["secondary"])
    request_id = reply.headers["x-request-id"]
    log = api(f"GET /v1/services/rest/logs?request_id={request_id}").content.decode().splitlines()
    assert [json.loads(line)["message"] for line in log] == ["scoring 2"]

    assert api("DELETE /v1/models/rest/1", status=409).error["code"] == "in_use"
    assert "rest" in api("GET /v1/environments/local").json["services"]
    done(api, api("DELETE /v1/services/rest", status=202))
    assert api("GET /v1/services/rest", status=404).error["code"] == "service_not_found"
    subject = api("GET /v1/operations?subject=service/rest").json["items"]
    assert {o["kind"] for o in subject} == {"service.create", "service.update", "service.rollback", "service.delete"}
    for number in (2, 1):
        for noun in ("images", "manifests", "models"):
            api(f"DELETE /v1/{noun}/rest/{number}", status=204)
        if number == 2:
            api("GET /v1/models/rest/1")
    api("GET /v1/models/rest", status=404)


def test_lists_come_in_pages(api: Api) -> None:
    entry = upload(api, "a.bin", b"the same in each")
    for number in range(5):
        api("POST /v1/models", {"name": f"paged-{number}", "files": [entry]}, 201)
    names: list[str] = []
    cursor = ""
    while True:
        page = api(f"GET /v1/models?limit=2{cursor}").json
        assert len(page["items"]) <= 2
        names += [m["name"] for m in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(names) == len(set(names))
    assert {f"paged-{n}" for n in range(5)} <= set(names)
    api("GET /v1/models?limit=0", status=422)
    assert api("GET /v1/models?cursor=garbage", status=400).error["message"]


def test_an_operation_that_fails(api: Api) -> None:
    api("POST /v1/models", {"name": "fails", "files": [upload(api, "m", b"x")]}, 201)
    wish = {
        "name": "fails",
        "models": ["fails:1"],
        "script": "score.py",
        "files": [upload(api, "score.py", b"def init(): pass\n")],
    }
    operation = api("POST /v1/manifests", wish, 202).json
    while operation["state"] in ("pending", "running"):
        operation = api(f"GET /v1/operations/{operation['id']}?wait_s=10").json
    assert operation["state"] == "failed"
    assert (operation["error"]["code"], operation["error"]["details"]) == ("invalid_script", {"path": "score.py"})
    api("GET /v1/manifests/fails", status=404)


def test_an_operation_may_be_waited_for_by_its_messages(api: Api) -> None:
    known = api("GET /v1/operations").json["items"][0]
    assert api(f"GET /v1/operations/{known['id']}?wait_s=30&seen=100").json["state"] in ("succeeded", "failed")
    assert api("GET /v1/operations/no-such-id", status=404).error["code"] == "operation_not_found"
