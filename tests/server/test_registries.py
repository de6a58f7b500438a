"""`/v1/registries`: logins are tried, kept, listed without passwords, and forgotten."""

import logging
from collections.abc import Iterator

import pytest

from argosy.images.distribution.logins import Login
from images.distribution.fake_registry import FakeRegistry, Seen
from server.plane import Plane, error_of

ANN = {"username": "ann", "password": "hunter2"}


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    def check(seen: Seen) -> str | None:
        return None if seen.headers.get("authorization") == Login("ann", "hunter2").basic else 'Basic realm="r"'

    registry = FakeRegistry(check)
    yield registry
    registry.close()


def test_log_in_list_and_log_out(plane: Plane, fake: FakeRegistry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = plane.client.post(f"/v1/registries/{fake.host}", json=ANN)
    assert (made.status_code, made.json()["username"], made.json()["plain_http"]) == (200, "ann", False)
    listed = plane.client.get("/v1/registries")
    assert [login["host"] for login in listed.json()["items"]] == [fake.host]
    with plane.control.registries.session(fake.host) as session:
        assert session.user == "ann"
    assert "hunter2" not in made.text + listed.text + caplog.text
    assert plane.client.delete(f"/v1/registries/{fake.host}").status_code == 204
    gone = plane.client.delete(f"/v1/registries/{fake.host}")
    assert (gone.status_code, error_of(gone)["code"]) == (404, "registry_not_found")


def test_a_login_that_the_registry_refuses_replaces_nothing(plane: Plane, fake: FakeRegistry) -> None:
    plane.client.post(f"/v1/registries/{fake.host}", json=ANN)
    refused = plane.client.post(f"/v1/registries/{fake.host}", json={**ANN, "password": "hunter3"})
    assert (refused.status_code, error_of(refused)["code"]) == (400, "registry_refused")
    assert "hunter3" not in refused.text
    with plane.control.registries.session(fake.host) as session:
        assert session.user == "ann"


def test_plain_http_alone_needs_nobody(plane: Plane, fake: FakeRegistry) -> None:
    refused = plane.client.post(f"/v1/registries/{fake.host}", json={"plain_http": True})
    assert "asks for a login" in error_of(refused)["message"]
    fake.check = lambda seen: None
    made = plane.client.post(f"/v1/registries/{fake.host}", json={"plain_http": True})
    assert (made.json()["username"], made.json()["plain_http"]) == ("", True)


@pytest.mark.parametrize(
    ("host", "body", "status"),
    [
        ("https:%2F%2Fr.example", ANN, 404),
        ("a%20b", ANN, 400),
        ("r.example", {"username": "ann"}, 400),
        ("r.example", {**ANN, "token": "hunter4"}, 422),
        ("r.example", {"username": "ann", "password": ["hunter4"]}, 422),
        ("127.0.0.1:1", ANN, 502),
    ],
)
def test_what_cannot_be_a_login(plane: Plane, host: str, body: dict[str, object], status: int) -> None:
    answer = plane.client.post(f"/v1/registries/{host}", json=body)
    assert answer.status_code == status, answer.text
    assert error_of(answer)["message"]
    assert "hunter" not in answer.text
    assert plane.client.get("/v1/registries").json()["items"] == []
