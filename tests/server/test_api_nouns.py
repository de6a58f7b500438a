"""The REST API noun by noun: what good requests do, and what bad ones leave alone."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from argosy.store.tables import operations
from server.plane import Plane, error_of

HUGE = 10**30


def upload(plane: Plane, content: bytes) -> dict[str, Any]:
    answer = plane.client.post("/v1/blobs", content=content)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_models(plane: Plane) -> None:
    file = {"path": "model.pkl", **upload(plane, b"weights")}
    made = plane.client.post("/v1/models", json={"name": "iris", "files": [file], "tags": {"stage": "dev"}})
    assert (made.status_code, made.json()["version"]) == (201, 1)
    again = plane.client.post("/v1/models", json={"name": "iris", "files": [file]})
    assert again.json()["version"] == 2
    assert [m["version"] for m in plane.client.get("/v1/models").json()["items"]] == [2]
    assert [m["version"] for m in plane.client.get("/v1/models/iris").json()["items"]] == [2, 1]
    assert len(plane.client.get("/v1/models?tag=stage%3Ddev&name=iris").json()["items"]) == 1
    changed = plane.client.patch("/v1/models/iris/1", json={"tags": {"stage": None, "a": "b"}, "metrics": {"f1": 0.5}})
    assert (changed.json()["tags"], changed.json()["metrics"]) == ({"a": "b"}, {"f1": 0.5})
    assert plane.client.put("/v1/models/iris/aliases/production", json={"version": 1}).json()["version"] == 1
    assert plane.client.get("/v1/models/iris/production").json()["version"] == 1
    assert plane.client.get("/v1/models/iris/latest").json()["version"] == 2
    got = plane.client.get("/v1/models/iris/1/files/model.pkl")
    assert (got.content, got.headers["x-content-type-options"]) == (b"weights", "nosniff")
    assert got.headers["content-disposition"].startswith("attachment")
    assert plane.client.delete("/v1/models/iris/aliases/production").status_code == 204
    assert plane.client.get("/v1/models/iris/production").status_code == 404
    assert plane.client.delete("/v1/models/iris/2").status_code == 204
    assert plane.client.delete("/v1/models/iris/2").status_code == 404
    assert plane.client.put("/v1/models/iris/aliases/p", json={"version": HUGE}).status_code == 404


@pytest.mark.parametrize("path", ["../../token", "..%2f..%2ftoken", "%2fetc%2fpasswd", "model.pkl%2f..", "nothing"])
def test_only_files_of_a_model_or_manifest_are_handed_out(plane: Plane, path: str) -> None:
    plane.shelf.manifest()
    (plane.shelf.folder / "token").write_text("secret")
    for noun in ("models", "manifests"):
        answer = plane.client.get(f"/v1/{noun}/iris/1/files/{path}")
        assert answer.status_code in (400, 404)
        assert "secret" not in answer.text


def test_a_file_whose_bytes_are_gone_is_told(plane: Plane) -> None:
    model = plane.shelf.model()
    plane.shelf.blobs.delete(model.files[0].sha256)
    answer = plane.client.get("/v1/models/iris/1/files/model.pkl")
    assert (answer.status_code, error_of(answer)["code"]) == (500, "storage_failed")


def test_a_blob_has_a_limit(plane: Plane) -> None:
    answer = plane.client.post("/v1/blobs", content=b"x" * 10_001)
    assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")


def test_a_model_from_a_url_is_an_operation(plane: Plane) -> None:
    body = {"name": "iris", "url": "http://192.0.2.1/model.pkl"}
    done = plane.finished(plane.client.post("/v1/models", json=body))
    assert (done["kind"], plane.ran[0]["url"]) == ("model.fetch", body["url"])


def test_manifests_and_images(plane: Plane) -> None:
    image = plane.shelf.image()
    plane.finished(plane.client.post("/v1/manifests", json={"name": "other", "models": ["iris:1"]}))
    assert plane.ran[-1] == {
        "recipe": {
            "name": "other", "models": ["iris:1"], "description": "",
        }
    }  # fmt: skip
    plane.finished(plane.client.post("/v1/images", json={"name": "other", "manifest": "iris"}))
    assert plane.ran[-1]["manifest"] == "iris:1", "frozen when it was asked for"
    assert plane.client.get("/v1/manifests/iris/1").json()["used_by"]["images"] == ["iris:1"]
    assert plane.client.get("/v1/manifests/iris/1/files/score.py").content.startswith(b"def run")
    assert plane.client.get("/v1/images/iris/latest").json()["digest"] == image.digest
    for path in ("/v1/manifests/iris/1", "/v1/models/iris/1"):
        answer = plane.client.delete(path)
        assert (answer.status_code, error_of(answer)["code"]) == (409, "in_use")
    for path in ("/v1/images/iris/1", "/v1/manifests/iris/1", "/v1/models/iris/1"):
        assert plane.client.delete(path).status_code == 204


@pytest.mark.parametrize("noun", ["models", "manifests", "images", "services"])
def test_pages(plane: Plane, noun: str) -> None:
    makers: dict[str, Callable[[str], object]] = {
        "models": plane.shelf.model,
        "manifests": plane.shelf.manifest,
        "images": plane.shelf.image,
        "services": plane.services.create,
    }
    make = makers[noun]
    names = [f"n{number}" for number in range(5)]
    for name in names:
        make(name)
    found: list[str] = []
    cursor: str | None = None
    for _ in range(9):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = plane.client.get(f"/v1/{noun}", params=query).json()
        found += [item["name"] for item in page["items"] if item["name"] in names]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == names


def test_environments(plane: Plane) -> None:
    made = plane.client.post("/v1/environments", json={"name": "second", "kind": "process"})
    assert made.status_code == 201
    plane.service()
    assert plane.client.get("/v1/environments/local").json()["services"] == ["iris"]
    answer = plane.client.delete("/v1/environments/local")
    assert (answer.status_code, error_of(answer)["details"]) == (409, {"used_by": ["service iris"]})
    assert plane.client.delete("/v1/environments/second").status_code == 204
    assert [e["name"] for e in plane.client.get("/v1/environments").json()["items"]] == ["local"]


def test_a_service_with_its_lineage(plane: Plane) -> None:
    plane.service()
    answer = plane.client.get("/v1/services/iris")
    shown = answer.json()
    assert (shown["state"], shown["image"], shown["manifest"], shown["models"]) == (
        "healthy", "iris:1", "iris:1", ["iris:1"],
    )  # fmt: skip
    assert shown["scoring_url"] == "http://127.0.0.1:7780/api/v1/service/iris/score"
    assert answer.headers["etag"] == shown["etag"]
    assert [r["state"] for r in shown["replicas"]] == ["ready"]
    usage = plane.client.get("/v1/services/iris/usage").json()
    keys = plane.client.get("/v1/services/iris/keys").json()
    assert keys["primary"] not in json.dumps(usage)
    assert [r["number"] for r in plane.client.get("/v1/services/iris/history").json()["items"]] == [1]


def test_a_service_that_never_worked_is_shown_too(plane: Plane) -> None:
    plane.services.launch_fails[1] = RuntimeError("no")
    plane.service()
    shown = plane.client.get("/v1/services/iris").json()
    assert (shown["state"], shown["live_revision"], shown["revision"]["state"]) == ("failed", None, "failed")
    assert plane.client.get("/v1/services").json()["items"][0]["state"] == "failed"


def test_regenerated_keys(plane: Plane) -> None:
    plane.service()
    before = plane.client.get("/v1/services/iris/keys").json()
    after = plane.client.post("/v1/services/iris/keys/secondary").json()
    assert after["primary"] == before["primary"] and after["secondary"] != before["secondary"]
    assert len(plane.services.target.settings["iris"]["keys"]) == 2, "confirmed, so the old one has ended"
    assert plane.client.post("/v1/services/iris/keys/tertiary").status_code == 400


def test_a_repeated_create_is_the_same_operation_also_when_the_service_is_there(plane: Plane) -> None:
    plane.shelf.image()
    body, key = {"name": "iris", "image": "iris:1"}, {"idempotency-key": "k1"}
    first = plane.finished(plane.client.post("/v1/services", json=body, headers=key))
    plane.service()
    second = plane.client.post("/v1/services", json=body, headers=key)
    assert (second.status_code, second.json()["id"]) == (202, first["id"])
    assert plane.client.post("/v1/services", json=body).status_code == 409
    other = plane.client.post("/v1/services", json={"name": "other", "image": "iris:1"}, headers=key)
    assert other.status_code == 409
    assert plane.client.post("/v1/services", json=body, headers={"idempotency-key": "k" * 256}).status_code == 422


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"replicas": 2}, {"replicas": 2}),
        ({"settings": {"log_level": "debug"}}, {"settings": {"log_level": "debug"}}),
        ({"image": "iris"}, {"image": "iris:1"}),
        ({"models": ["iris:1"]}, {"recipe": {"from": "iris:1", "models": ["iris:1"], "name": "iris"}}),
        ({"recipe": {"script": "s.py"}}, {"recipe": {"from": "iris:1", "script": "s.py", "name": "iris"}}),
    ],
)
def test_what_an_update_asks_for(plane: Plane, body: dict[str, Any], expected: dict[str, Any]) -> None:
    plane.service()
    plane.finished(plane.client.patch("/v1/services/iris", json=body))
    asked = plane.ran[-1]
    for key, value in expected.items():
        found = {k: asked[key][k] for k in value} if isinstance(value, dict) else asked[key]
        assert found == value


@pytest.mark.parametrize(
    "body",
    [
        {"image": "iris:1", "models": ["iris:1"]},
        {"image": "iris:1", "recipe": {"script": "s.py"}},
        {"replicas": -1},
        {"settings": {"log_level": "loud"}},
    ],
)
def test_updates_that_cannot_be(plane: Plane, body: dict[str, Any]) -> None:
    plane.service()
    answer = plane.client.patch("/v1/services/iris", json=body)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid_option")


def test_if_match(plane: Plane) -> None:
    plane.service()
    etag = plane.client.get("/v1/services/iris").headers["etag"]
    wrong = plane.client.patch("/v1/services/iris", json={"replicas": 2}, headers={"if-match": '"0"'})
    assert (wrong.status_code, error_of(wrong)["code"]) == (412, "precondition_failed")
    plane.finished(plane.client.patch("/v1/services/iris", json={"replicas": 2}, headers={"if-match": etag}))
    assert plane.ran[-1]["if_match"] == etag


def test_deleting_begins_at_once(plane: Plane) -> None:
    plane.service()
    plane.finished(plane.client.delete("/v1/services/iris"))
    assert plane.services.registry.get("iris").deleting, "whatever the queue of operations"
    for answer in (
        plane.client.patch("/v1/services/iris", json={"replicas": 2}),
        plane.client.post("/v1/services", json={"name": "iris", "image": "iris:1"}),
    ):
        assert answer.status_code == 409


@pytest.mark.parametrize("to", [0, -1, HUGE, "x", 1.5])
def test_rollback_to_what_is_no_revision(plane: Plane, to: object) -> None:
    plane.service()
    answer = plane.client.post("/v1/services/iris/rollback", json={"to": to})
    assert answer.status_code == 422
    assert plane.client.post("/v1/services/iris/rollback", json={"to": 7}).status_code == 404


def test_a_rollback_is_taken_while_an_update_is_under_way(plane: Plane) -> None:
    plane.service()
    refused = plane.client.post("/v1/services/iris/rollback", json={"to": None})
    assert (refused.status_code, "nothing to go back to" in refused.text) == (409, True)
    with plane.shelf.database.write() as connection:
        connection.execute(
            operations.insert().values(
                id="busy", kind="service.update", subject="service/iris", state="running", input={}, made={},
                messages=[], created_at="now", updated_at="now",
            )
        )  # fmt: skip
    assert plane.client.patch("/v1/services/iris", json={"description": "x"}).status_code == 409
    plane.finished(plane.client.post("/v1/services/iris/rollback", json={"to": None}))
    assert plane.ran[-1] == {"name": "iris", "to": None, "giving_up": True}
    assert plane.operations.superseded("busy")


def test_logs(plane: Plane, tmp_path: Path) -> None:
    plane.service()
    lines = [
        json.dumps({"timestamp": f"2026-01-01T00:00:0{n}Z", "message": str(n), "request_id": f"r{n % 2}"})
        for n in range(6)
    ]
    plane.logs(tmp_path, *lines, "no JSON")
    got = plane.client.get("/v1/services/iris/logs?lines=3").text.splitlines()
    assert got[:2] == lines[4:]
    assert json.loads(got[2])["message"] == "no JSON"
    got = plane.client.get("/v1/services/iris/logs?request_id=r1&lines=2").text.splitlines()
    assert got == [lines[3], lines[5]]
    assert plane.client.get("/v1/services/iris/logs?lines=0").text == ""


def test_operations(plane: Plane) -> None:
    plane.service()
    done = plane.finished(plane.client.patch("/v1/services/iris", json={"replicas": 2}))
    page = plane.client.get("/v1/operations?subject=service/iris&state=succeeded").json()
    assert [operation["id"] for operation in page["items"]] == [done["id"]]


def test_status_doctor_and_shutdown(plane: Plane) -> None:
    plane.service()
    status = plane.client.get("/v1/status").json()
    assert status["counts"] == {"services": 1, "replicas": 1}
    checks = {check["name"]: check for check in plane.client.get("/v1/doctor").json()["checks"]}
    assert checks["service iris"]["state"] == "ok"
    assert checks["database"]["state"] == "ok"
    answer = plane.client.post("/v1/shutdown", json={"services": False})
    assert answer.status_code == 202
    deadline = time.monotonic() + 10
    while not plane.stopped:
        assert time.monotonic() < deadline
        assert plane.client.get("/healthz").status_code == 200
    assert plane.stopped == [False]


def test_an_oci_image_is_asked_for_with_its_base_and_platforms(plane: Plane) -> None:
    plane.shelf.manifest()
    wanted = {"name": "iris", "manifest": "iris", "builder": "oci", "base": "oci:/x", "platforms": ["linux/arm64"]}
    plane.finished(plane.client.post("/v1/images", json=wanted))
    assert plane.ran[-1]["oci"] == {"base": "oci:/x", "platforms": ["linux/arm64"]}
    plane.finished(plane.client.post("/v1/images", json={"name": "iris", "manifest": "iris"}))
    assert "oci" not in plane.ran[-1]
    plane.finished(plane.client.post("/v1/images", json={"name": "iris", "manifest": "iris", "base": "oci:/x"}))
    assert plane.ran[-1]["oci"]["base"] == "oci:/x", "a base alone means the builder that needs no engine"


@pytest.mark.parametrize(
    ("changes", "status", "problem"),
    [
        ({"docker_steps": "RUN true\n"}, 400, "--builder docker"),
        ({"fresh": True}, 400, "--builder docker"),
        ({"builder": "oci", "base": "oci:/x", "platforms": ["windows/amd64"]}, 400, "windows/amd64"),
        ({"builder": "kaniko", "base": "oci:/x"}, 422, "builder"),
        ({"builder": "oci", "base": ""}, 422, "base"),
    ],
)
def test_half_an_oci_image_is_refused_before_anything_begins(
    plane: Plane, changes: dict[str, Any], status: int, problem: str
) -> None:
    plane.shelf.manifest()
    answer = plane.client.post("/v1/images", json={"name": "iris", "manifest": "iris", **changes})
    assert answer.status_code == status and problem in json.dumps(error_of(answer)), answer.text
    assert plane.ran == []


def test_an_image_that_was_not_built_as_oci_has_no_archive(plane: Plane) -> None:
    plane.shelf.image()
    answer = plane.client.get("/v1/images/iris/1/archive")
    assert answer.status_code == 400 and "--builder oci" in error_of(answer)["message"]
    assert plane.client.get("/v1/images/nobody/1/archive").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "problem"),
    [
        ("images/pull", {"reference": "127.0.0.1:5000/Team/iris"}, 400, "lower-case"),
        ("images/pull", {"reference": "127.0.0.1:5000/team/iris", "name": "No Name"}, 400, "No Name"),
        ("images/pull", {"reference": ""}, 422, "reference"),
        ("images/load", {"sha256": "a" * 64}, 404, "Upload the archive first"),
        ("images/load", {"sha256": "../../etc/passwd"}, 422, "sha256"),
        ("images/iris/1/push", {"destination": "127.0.0.1:5000/iris"}, 400, "--builder oci"),
        ("images/nobody/1/push", {}, 404, "nobody"),
        ("gc", {"dry": True}, 422, "dry"),
    ],
)
def test_transfers_that_cannot_be_are_refused_before_anything_begins(
    plane: Plane, path: str, body: dict[str, Any], status: int, problem: str
) -> None:
    plane.shelf.image()
    answer = plane.client.post(f"/v1/{path}", json=body)
    assert answer.status_code == status and problem in json.dumps(error_of(answer)), answer.text
    assert plane.ran == []


@pytest.mark.parametrize("document", ["sbom", "provenance"])
def test_documents_of_an_image_that_has_none(plane: Plane, document: str) -> None:
    plane.shelf.image()
    answer = plane.client.get(f"/v1/images/iris/1/{document}")
    assert answer.status_code == 400 and "--builder oci" in error_of(answer)["message"]
