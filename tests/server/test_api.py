"""The REST API: who gets in, the one error shape, and what every noun answers to good and bad requests."""

import errno
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.models.registry import ModelRegistry
from server.plane import TOKEN, Plane, error_of

HUGE = 10**30


def routes(plane: Plane) -> list[tuple[str, str]]:
    paths = plane.stranger.get("/openapi.json").json()["paths"]
    filled = [(method.upper(), re.sub(r"{[^}]+}", "x", path)) for path, ways in paths.items() for method in ways]
    return [(method, path) for method, path in filled if path.startswith("/v1")]


# -- who gets in -------------------------------------------------------------------------------------------------


def test_every_route_below_v1_wants_the_token(plane: Plane) -> None:
    found = routes(plane)
    assert len(found) > 35
    for method, path in found:
        for headers in (
            {},
            {"authorization": ""},
            {"authorization": "Bearer"},
            {"authorization": "Bearer "},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": f"Bearer {TOKEN[:-1]}"},
            {"x-token": TOKEN},
        ):
            answer = plane.stranger.request(method, path, headers=headers)
            assert (answer.status_code, error_of(answer)["code"]) == (401, "unauthorized"), (method, path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
        assert plane.client.request(method, path).status_code != 401
    assert plane.stopped == []


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/models/", "/%76%31/models", "/v1//models", "/v1/nothing", "/v1x"])
def test_no_spelling_of_a_path_goes_round_it(still: Plane, path: str) -> None:
    assert still.stranger.get(path).status_code == 401


@pytest.mark.parametrize("path", ["//v1/models", "/V1/models", "/./v1/models", "/docs/../v1/models"])
def test_paths_that_are_none(still: Plane, path: str) -> None:
    assert still.stranger.get(path).status_code in (401, 404)


def test_a_refused_upload_is_not_read(plane: Plane) -> None:
    assert plane.stranger.post("/v1/blobs", content=b"x" * 1000).status_code == 401
    assert [path for path in (plane.shelf.folder / "blobs").rglob("*") if path.is_file()] == []


def test_the_kind_is_read_without_case(plane: Plane) -> None:
    assert plane.stranger.get("/v1/status", headers={"authorization": f"bearer  {TOKEN} "}).status_code == 200


def test_health_and_documents_are_open(plane: Plane) -> None:
    assert plane.stranger.get("/healthz").json() == {"status": "ok"}
    assert plane.stranger.get("/openapi.json").status_code == 200
    assert plane.stranger.get("/docs").status_code == 200


def test_the_page_loads_nothing_from_elsewhere(plane: Plane) -> None:
    page = plane.stranger.get("/docs").text
    links = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)""", page)
    assert links and all(not re.match(r"[a-z]+:?//", link) for link in links), links
    for link in links:
        if not link.startswith("data:"):
            answer = plane.stranger.get(f"/{link}")
            assert answer.status_code == 200 and len(answer.content) > 500, link
    for wrong in ("../app.py", "..%2fapp.py", "index.html", "swagger-ui.css.map"):
        assert plane.stranger.get(f"/docs/{wrong}").status_code == 404


# -- the one error shape -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing", None, 404, "not_found"),
        ("GET", "/v1/models/nobody", None, 404, "model_not_found"),
        ("GET", "/v1/models/nobody/1", None, 404, "model_not_found"),
        ("GET", "/v1/manifests/nobody", None, 404, "manifest_not_found"),
        ("GET", "/v1/images/nobody/latest", None, 404, "image_not_found"),
        ("GET", "/v1/environments/nobody", None, 404, "environment_not_found"),
        ("GET", "/v1/services/nobody", None, 404, "service_not_found"),
        ("GET", "/v1/services/nobody/logs", None, 404, "service_not_found"),
        ("GET", "/v1/services/nobody/keys", None, 404, "service_not_found"),
        ("GET", "/v1/services/nobody/usage", None, 404, "service_not_found"),
        ("GET", "/v1/services/nobody/history", None, 404, "service_not_found"),
        ("POST", "/v1/services/nobody/keys/primary", None, 404, "service_not_found"),
        ("PATCH", "/v1/services/nobody", {}, 404, "service_not_found"),
        ("DELETE", "/v1/services/nobody", None, 404, "service_not_found"),
        ("GET", "/v1/operations/nobody", None, 404, "operation_not_found"),
        ("PUT", "/v1/models", {}, 405, "method_not_allowed"),
        ("POST", "/v1/environments", {"name": "local"}, 409, "conflict"),
        ("POST", "/v1/environments", {"name": "Local"}, 400, "invalid_name"),
        ("POST", "/v1/environments", {"name": "x", "kind": "moon"}, 400, "invalid_option"),
        ("POST", "/v1/environments", {}, 422, "invalid_request"),
        ("POST", "/v1/environments", {"name": "x", "colour": 1}, 422, "invalid_request"),
        ("POST", "/v1/environments", {"name": "\ud800"}, 422, "invalid_request"),
        ("POST", "/v1/environments", {"name": "x", "\ud800": 1}, 422, "invalid_request"),
        ("POST", "/v1/environments", [], 422, "invalid_request"),
        ("POST", "/v1/models", {"name": "Iris"}, 400, "invalid_name"),
        ("POST", "/v1/models", {"name": "iris"}, 400, "invalid_option"),
        ("POST", "/v1/models", {"name": "iris", "url": "http://h/x", "tags": {"a": 1}}, 422, "invalid_request"),
        ("POST", "/v1/manifests", {}, 400, "invalid_option"),
        ("POST", "/v1/manifests", {"name": "IRIS"}, 400, "invalid_name"),
        ("POST", "/v1/manifests", {"name": "x", "colour": 1}, 422, "invalid_request"),
        ("POST", "/v1/images", {"name": "x", "manifest": "nobody:1"}, 404, "manifest_not_found"),
        ("POST", "/v1/images", {"name": "x", "manifest": {"name": "x", "colour": 1}}, 422, "invalid_request"),
        ("POST", "/v1/services", {"name": "x"}, 400, "invalid_option"),
        ("POST", "/v1/services", {"name": "x", "image": "nobody"}, 404, "image_not_found"),
        ("POST", "/v1/services", {"name": "X", "image": "nobody"}, 400, "invalid_name"),
        ("POST", "/v1/services", {"name": "x", "environment": "moon"}, 404, "environment_not_found"),
        ("POST", "/v1/services", {"name": "x", "replicas": HUGE}, 400, "invalid_option"),
        ("POST", "/v1/services", {"name": "x", "settings": {"colour": 1}}, 400, "invalid_option"),
        ("POST", "/v1/services", {"name": "x", "settings": {"\ud800": 1}}, 400, "invalid_option"),
        ("POST", "/v1/services", {"name": "x", "settings": {"environment": {"A": "\ud800"}}}, 400, "invalid_option"),
        ("POST", "/v1/services", {"name": "x", "settings": {"cpu": HUGE}}, 400, "invalid_option"),
        ("POST", "/v1/shutdown", {"colour": 1}, 422, "invalid_request"),
    ],
)
def test_errors(still: Plane, method: str, path: str, body: Any, status: int, code: str) -> None:
    content = None if body is None else json.dumps(body)
    answer = still.client.request(method, path, content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert still.stopped == []


def test_a_validation_error_names_the_field(plane: Plane) -> None:
    answer = plane.client.post("/v1/environments", json={"name": "x", "colour": 1})
    assert error_of(answer)["details"] == {
        "fields": [{"field": "body/colour", "problem": "Extra inputs are not permitted"}]
    }
    assert "body/colour" in error_of(answer)["message"]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"name": NaN}', b""])
def test_bodies_that_are_no_json(still: Plane, content: bytes) -> None:
    answer = still.client.post("/v1/environments", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    error_of(answer)


def test_a_body_without_end_is_cut_off(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argosy.server.app._BODY_LIMIT_BYTES", 1000)
    answer = plane.client.post("/v1/environments", json={"name": "x" * 2000})
    assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")
    assert plane.client.post("/v1/blobs", content=b"x" * 2000).status_code == 201


@pytest.mark.parametrize(
    ("problem", "status", "code"),
    [
        (RuntimeError("secret detail"), 500, "system_failure"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 500, "storage_failed"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 500, "storage_failed"),
        (OSError(errno.EIO, "Input/output error", "/x"), 500, "system_failure"),
    ],
)
def test_what_goes_wrong_inside(
    plane: Plane,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    problem: Exception,
    status: int,
    code: str,
) -> None:
    def fails(*_arguments: object) -> None:
        raise problem

    monkeypatch.setattr(ModelRegistry, "page", fails)
    answer = plane.client.get("/v1/models")
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert "secret detail" not in answer.text
    assert ("Traceback" in caplog.text) == (code == "system_failure")
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models?limit=0", "/v1/models?limit=501", f"/v1/models?limit={HUGE}", "/v1/models?limit=x",
        "/v1/models?tag=x", "/v1/models?cursor=x", "/v1/images?cursor=x", "/v1/manifests?cursor=NQ",
        "/v1/operations?cursor=x", "/v1/services?cursor=e30", "/v1/services/iris/logs?lines=-1",
        f"/v1/services/iris/logs?lines={HUGE}", "/v1/operations/x?wait_s=31", "/v1/operations/x?wait_s=nan",
        f"/v1/models/iris/{HUGE}", f"/v1/manifests/iris/{HUGE}", f"/v1/images/iris/{HUGE}",
        "/v1/images/iris/" + "9" * 5000, "/v1/images/..%2f..%2fetc/1", "/v1/images/%00/1", "/v1/images/iris/%D9%A3",
    ],
)  # fmt: skip
def test_queries_and_paths_that_cannot_be(still: Plane, path: str) -> None:
    answer = still.client.get(path)
    assert answer.status_code in (400, 404, 422), answer.text
    error_of(answer)


NAMES = st.sampled_from(["name", "kind", "settings", "image", "replicas", "models", "schema", "url"])
SETTINGS = st.sampled_from(["cpu", "environment", "secrets", "log_level"])
TEXT = st.text(max_size=3)
SCALARS = st.one_of(st.none(), st.integers(), TEXT, st.floats())
VALUES = st.one_of(
    SCALARS,
    st.lists(TEXT, max_size=2),
    st.dictionaries(SETTINGS, st.one_of(SCALARS, st.dictionaries(TEXT, TEXT))),
)
NOUNS = st.sampled_from(["services", "models", "environments", "manifests", "images"])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, VALUES), NOUNS)
def test_no_body_is_met_with_a_defect(still: Plane, body: dict[str, Any], noun: str) -> None:
    headers = {"content-type": "application/json"}
    answer = still.client.post(f"/v1/{noun}", content=json.dumps(body), headers=headers)
    assert answer.status_code < 500, answer.text


def test_what_the_gateway_counted(plane: Plane) -> None:
    answer = plane.client.get("/v1/gateway").json()
    assert (answer["state"], answer["counters"]) == ("running", {"iris": {"requests": 3}})
