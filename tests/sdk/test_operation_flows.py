"""Waiting for an operation: messages once, its error raised, a restarted control plane survived."""

import pytest

from argosy.errors import ConnectionLost, Error, NotRunning, TimedOut
from argosy.sdk.operations import error_of, wait
from argosy.sdk.wire import Request, Response, Sleep, path_of
from sdk.conftest import Run
from sdk.fake_control_plane import FakeControlPlane, operation

PATH = "/v1/operations/op1"


def test_each_message_is_told_once(run: Run, fake: FakeControlPlane) -> None:
    fake.answer(
        "GET",
        PATH,
        operation("running", ["a"]),
        operation("running", ["a", "b"]),
        operation("succeeded", ["a", "b", "c"]),
    )
    said: list[str] = []
    assert run("operations.wait", "op1", on_message=said.append).done
    assert said == ["a", "b", "c"]
    assert [seen.query["seen"] for seen in fake.seen] == ["0", "1", "2"]


def test_a_failed_operation_raises_its_error(run: Run, fake: FakeControlPlane) -> None:
    fake.answer(
        "GET", PATH, operation("failed", error={"code": "deploy_failed", "message": "no", "details": {"log": ["x"]}})
    )
    with pytest.raises(Error, match="no") as caught:
        run("operations.wait", "op1")
    assert (caught.value.code, caught.value.exit_code, caught.value.details) == ("deploy_failed", 2, {"log": ["x"]})


def test_a_cancelled_operation_is_an_error(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", PATH, operation("cancelled", message="superseded"))
    with pytest.raises(Error, match="was cancelled: superseded"):
        run("operations.wait", "op1")


def test_patience_ends(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", PATH, operation("running"))
    with pytest.raises(TimedOut):
        run("operations.wait", "op1", timeout_s=0)


@pytest.mark.parametrize("problem", [NotRunning("there"), ConnectionLost("there", "reset")])
def test_a_control_plane_that_restarts_is_waited_for(problem: Error) -> None:
    flow = wait("op1")
    assert isinstance(next(flow), Request)
    assert isinstance(flow.throw(problem), Sleep)
    assert isinstance(flow.send(Response(200)), Request)
    body = b'{"id":"op1","kind":"k","subject":"s","state":"succeeded","step":"","created_at":"","updated_at":""}'
    with pytest.raises(StopIteration) as end:
        flow.send(Response(200, {}, body))
    assert end.value.value.done


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [("invalid_dependencies", 400, 1), ("python_not_found", 400, 1), ("model_not_found", 404, 1), ("in_use", 409, 1),
     ("environment_failed", 500, 2), ("unheard_of", 500, 2), ("", 500, 2)],
)  # fmt: skip
def test_the_status_of_an_operations_error_follows_its_code(code: str, status: int, exit_code: int) -> None:
    error = error_of({"code": code, "message": "m"})
    assert (error.status, error.exit_code, error.message) == (status, exit_code, "m")


def test_segments_of_a_path_cannot_reach_another() -> None:
    assert path_of("models", "a/../b", 3) == "/v1/models/a%2F..%2Fb/3"
