"""Every call of both clients: what it asks the control plane for, and what it makes of the answer."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import Conflict, Error, InvalidName, InvalidOption, InvalidReference, UserError
from argosy.records import Environment, Model, Service, ServiceKeys
from argosy.sdk.aio import AsyncClient
from argosy.sdk.client import Client
from sdk.conftest import Run
from sdk.fake_control_plane import Answer, FakeControlPlane, error, model, operation, page, service, usage

KEYS = {"primary": "p", "secondary": "s"}
ENVIRONMENT = {"name": "local", "kind": "process", "created_at": ""}
LOGIN = {"host": "r.example:5000", "username": "ann", "plain_http": False, "created_at": ""}
DONE = operation(result={"service": "iris"})
STATUS = {"version": "1", "pid": 1, "url": "u", "home": "h", "started_at": "", "gateway": {}}

# call, arguments, the request it makes, its body (None: none), the answer
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, str, Any, Any]] = [
    ("models.list", (), {}, "GET", "/v1/models", None, page(model())),
    ("models.versions", ("iris",), {}, "GET", "/v1/models/iris", None, page(model())),
    ("models.show", ("iris",), {}, "GET", "/v1/models/iris/latest", None, model()),
    ("models.show", ("iris:3",), {}, "GET", "/v1/models/iris/3", None, model()),
    ("models.show", ("iris@prod",), {}, "GET", "/v1/models/iris/prod", None, model()),
    ("models.tag", ("iris:3", {"a": "b", "c": None}), {"description": "x"}, "PATCH", "/v1/models/iris/3",
     {"tags": {"a": "b", "c": None}, "description": "x"}, model()),
    ("models.unalias", ("iris", "prod"), {}, "DELETE", "/v1/models/iris/aliases/prod", None, None),
    ("manifests.list", (), {}, "GET", "/v1/manifests", None, page()),
    ("manifests.versions", ("iris",), {}, "GET", "/v1/manifests/iris", None, page()),
    ("images.list", (), {}, "GET", "/v1/images", None, page()),
    ("images.versions", ("iris",), {}, "GET", "/v1/images/iris", None, page()),
    ("images.create", ("iris",), {"manifest": "iris:2"}, "POST", "/v1/images",
     {"name": "iris", "manifest": "iris:2", "description": ""}, DONE),
    ("images.run", ("iris",), {"sample": {"input": [1]}, "environment": "box"}, "POST", "/v1/images/iris/latest/run",
     {"sample": {"input": [1]}, "environment": "box"}, DONE),
    ("environments.list", (), {}, "GET", "/v1/environments", None, page(ENVIRONMENT)),
    ("environments.show", ("local",), {}, "GET", "/v1/environments/local", None, ENVIRONMENT),
    ("environments.create", ("local",), {}, "POST", "/v1/environments", {"name": "local", "kind": "process"},
     ENVIRONMENT),
    ("environments.create", ("box", "container"), {"engine": "unix:///e"}, "POST", "/v1/environments",
     {"name": "box", "kind": "container", "engine": "unix:///e"}, ENVIRONMENT),
    ("environments.use", ("local",), {}, "POST", "/v1/environments/local/use", None, ENVIRONMENT),
    ("environments.check", ("local",), {}, "GET", "/v1/environments/local/check", None,
     page({"name": "engine", "state": "ok", "message": "it answers"})),
    ("environments.delete", ("local",), {}, "DELETE", "/v1/environments/local", None, None),
    ("registries.list", (), {}, "GET", "/v1/registries", None, page(LOGIN)),
    ("registries.login", ("r.example:5000", "ann", "pw"), {}, "POST", "/v1/registries/r.example%3A5000",
     {"username": "ann", "password": "pw", "plain_http": False}, LOGIN),
    ("registries.logout", ("r.example",), {}, "DELETE", "/v1/registries/r.example", None, None),
    ("services.list", (), {}, "GET", "/v1/services", None, page(service())),
    ("services.show", ("iris",), {}, "GET", "/v1/services/iris", None, service()),
    ("services.create", ("iris",), {"image": "iris:1", "replicas": 2, "settings": {"cpu": 1.0}}, "POST", "/v1/services",
     {"name": "iris", "replicas": 2, "settings": {"cpu": 1.0}, "description": "",
      "image": "iris:1"}, DONE),
    ("services.update", ("iris",), {"image": "iris:2"}, "PATCH", "/v1/services/iris", {"image": "iris:2"}, DONE),
    ("services.update", ("iris",), {"settings": {"cpu": 2.0}}, "PATCH", "/v1/services/iris", {"settings": {"cpu": 2.0}},
     DONE),
    ("services.scale", ("iris", 3), {}, "PATCH", "/v1/services/iris", {"replicas": 3}, DONE),
    ("services.delete", ("iris",), {}, "DELETE", "/v1/services/iris", None, DONE),
    ("services.history", ("iris",), {}, "GET", "/v1/services/iris/history", None, page()),
    ("services.rollback", ("iris", 2), {}, "POST", "/v1/services/iris/rollback", {"to": 2}, DONE),
    ("services.keys", ("iris",), {}, "GET", "/v1/services/iris/keys", None, KEYS),
    ("services.regenerate_key", ("iris", "primary"), {}, "POST", "/v1/services/iris/keys/primary", None, KEYS),
    ("services.usage", ("iris",), {}, "GET", "/v1/services/iris/usage", None, usage("u")),
    ("operations.list", (), {"state": "failed"}, "GET", "/v1/operations", None, page(operation())),
    ("operations.show", ("op1",), {}, "GET", "/v1/operations/op1", None, operation()),
    ("status", (), {}, "GET", "/v1/status", None, STATUS),
    ("doctor", (), {}, "GET", "/v1/doctor", None, {"checks": []}),
    ("shutdown", (), {}, "POST", "/v1/shutdown", {"services": True}, None),
]  # fmt: skip


@pytest.mark.parametrize(("call", "args", "kwargs", "method", "path", "body", "answer"), CALLS)
def test_request_of_each_call(
    run: Run, fake: FakeControlPlane, call: str, args: tuple[Any, ...], kwargs: dict[str, Any], method: str, path: str,
    body: Any, answer: Any,
) -> None:  # fmt: skip
    fake.answer(method, path, answer)
    fake.answer("GET", "/v1/operations/op1", DONE)
    run(call, *args, **kwargs)
    request = fake.asked(method, path)[0]
    assert (json.loads(request.body) if request.body else None) == body
    if answer is DONE:
        assert len(request.headers["idempotency-key"]) == 32


def test_records_come_back(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/models/iris/latest", model(7, aliases=["prod"], unheard_of=1))
    fake.answer("GET", "/v1/services/iris", service())
    fake.answer("GET", "/v1/services/iris/keys", KEYS)
    fake.answer("GET", "/v1/environments/local", ENVIRONMENT)
    found: Model = run("models.show", "iris")
    assert (found.reference, found.aliases, found.files[0].path) == ("iris:7", ["prod"], "model.pkl")
    live: Service = run("services.show", "iris")
    assert live.settings.max_queued_requests == 10
    assert run("services.keys", "iris") == ServiceKeys("p", "s")
    assert run("environments.show", "local") == Environment("local", "process", "")


def test_lists_follow_their_pages(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/models/iris", page(model(3), model(2), following="c2"), page(model(1)))
    assert [found.version for found in run("models.versions", "iris")] == [3, 2, 1]
    assert [seen.query.get("cursor") for seen in fake.seen] == [None, "c2"]


def test_several_tags_must_all_be_there(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/models", page(model(1, tags={"a": "1", "b": "2"}), model(2, tags={"a": "1"})))
    assert [found.version for found in run("models.list", tags={"a": "1", "b": "2"})] == [1]
    assert fake.seen[0].query["tag"] == "a=1"


def test_alias_points_at_the_version_of_a_reference(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/models/iris/candidate", model(4))
    fake.answer("PUT", "/v1/models/iris/aliases/prod", model(4, aliases=["prod"]))
    run("models.alias", "iris@candidate", "prod")
    assert fake.seen[-1].json == {"version": 4}


@pytest.mark.parametrize("noun", ["models", "manifests", "images"])
def test_delete_wants_a_version(run: Run, fake: FakeControlPlane, noun: str) -> None:
    with pytest.raises(InvalidOption, match="name the version"):
        run(f"{noun}.delete", "iris")
    assert fake.seen == []


def test_names_are_checked_before_anything_is_sent(run: Run, fake: FakeControlPlane, tmp_path: Path) -> None:
    for name in ("../etc", "UPPER", "a/b", ""):
        with pytest.raises(InvalidName):
            run("services.show", name)
        with pytest.raises(InvalidName):
            run("models.register", tmp_path, name)
    with pytest.raises(InvalidReference):
        run("models.show", "iris:latest")
    assert fake.seen == []


def test_errors_have_the_servers_code_status_and_details(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/services/iris", error(409, "in_use", "busy", used_by=["x"]))
    with pytest.raises(Error, match="busy") as caught:
        run("services.show", "iris")
    found = caught.value
    assert (found.code, found.status, found.exit_code, found.details) == ("in_use", 409, 1, {"used_by": ["x"]})


def test_another_program_is_told_from_a_control_plane(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/status", Answer(b"<html>hello</html>", headers={"Content-Type": "text/html"}))
    with pytest.raises(Error, match="not from an Argosy control plane"):
        run("status")
    fake.answer("GET", "/v1/status", {"something": "else"})
    with pytest.raises(Error, match="not from an Argosy control plane"):
        run("status")
    fake.answer("GET", "/v1/status", Answer(b"Bad gateway", 502))
    with pytest.raises(Error, match="HTTP 502: Bad gateway"):
        run("status")


def test_a_model_file_is_sent_then_registered(run: Run, fake: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "iris.pkl").write_bytes(b"w" * 3_000_000)
    fake.answer("POST", "/v1/models", model(), status=201)
    seen: list[tuple[int, int]] = []
    run("models.register", tmp_path / "iris.pkl", "iris", tags={"a": "b"}, metrics={"acc": 0.9},
        on_progress=lambda done, total: seen.append((done, total)))  # fmt: skip
    body = fake.asked("POST", "/v1/models")[0].json
    (digest,) = fake.blobs
    assert body["files"] == [{"path": "iris.pkl", "sha256": digest, "size_bytes": 3_000_000}]
    assert (body["kind"], body["tags"], body["metrics"]) == ("file", {"a": "b"}, {"acc": 0.9})
    assert body["source"] == str(tmp_path / "iris.pkl")
    assert seen[-1] == (3_000_000, 3_000_000)


def test_a_url_is_fetched_by_the_server(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("POST", "/v1/models", operation("running"), status=202)
    fake.answer("GET", "/v1/operations/op1", operation(result={"model": "iris:5"}))
    fake.answer("GET", "/v1/models/iris/5", model(5))
    assert run("models.register", "https://example.com/m.onnx", "iris").version == 5
    assert fake.asked("POST", "/v1/models")[0].json["url"] == "https://example.com/m.onnx"


def test_a_service_in_one_go(run: Run, fake: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "iris.pkl").write_bytes(b"weights")
    (tmp_path / "score.py").write_text("def run(x): ...")
    fake.answer("POST", "/v1/models", model(1, {"iris.pkl": b"weights"}), status=201)
    fake.answer("POST", "/v1/services", DONE, status=202)
    said: list[str] = []
    run("services.create", "iris", model_files=[tmp_path / "iris.pkl"], script=tmp_path / "score.py",
        variables={"K": "V"}, wait=False, on_message=said.append)  # fmt: skip
    recipe = fake.asked("POST", "/v1/services")[0].json["recipe"]
    assert (recipe["models"], recipe["script"], recipe["environment"]) == (["iris:1"], "score.py", {"K": "V"})
    assert [entry["path"] for entry in recipe["files"]] == ["score.py"]
    assert said == ["registered model iris:1"]


def test_the_same_model_file_is_not_registered_twice(run: Run, fake: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "iris.pkl").write_bytes(b"weights")
    fake.answer("GET", "/v1/models/iris/latest", model(4, {"iris.pkl": b"weights"}))
    fake.answer("POST", "/v1/services", DONE, status=202)
    run("services.create", "iris", model_files=[tmp_path / "iris.pkl"], wait=False)
    assert fake.asked("POST", "/v1/services")[0].json["recipe"]["models"] == ["iris:4"]
    assert fake.asked("POST", "/v1/models") == []


def test_an_existing_service_is_refused_before_a_model_is_registered(
    run: Run, fake: FakeControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "iris.pkl").write_bytes(b"weights")
    fake.answer("GET", "/v1/services/iris", service())
    with pytest.raises(Conflict, match="service update iris"):
        run("services.create", "iris", model_files=[tmp_path / "iris.pkl"])
    assert [seen.method for seen in fake.seen] == ["GET"]


def test_update_with_a_new_file_keeps_the_file_name_that_the_recipe_loads(
    run: Run, fake: FakeControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "new.pkl").write_bytes(b"better")
    fake.answer("GET", "/v1/services/iris", service(models=["flowers:1"]))
    fake.answer("GET", "/v1/models/flowers/1", model(1, {"model.pkl": b"weights"}, name="flowers"))
    fake.answer("POST", "/v1/models", model(2, {"model.pkl": b"better"}, name="flowers"), status=201)
    fake.answer("PATCH", "/v1/services/iris", DONE, status=202)
    run("services.update", "iris", model_files=[tmp_path / "new.pkl"], wait=False)
    registered = fake.asked("POST", "/v1/models")[0].json
    assert (registered["name"], registered["files"][0]["path"]) == ("flowers", "model.pkl")
    assert fake.asked("PATCH", "/v1/services/iris")[0].json == {"models": ["flowers:2"]}


def test_update_with_a_new_script_lies_over_the_live_manifest(run: Run, fake: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def run(x): ...")
    fake.answer("GET", "/v1/services/iris", service())
    fake.answer("PATCH", "/v1/services/iris", DONE, status=202)
    run("services.update", "iris", script=tmp_path / "score.py", models=["iris:2"], wait=False)
    recipe = fake.asked("PATCH", "/v1/services/iris")[0].json["recipe"]
    assert (recipe["from"], recipe["script"], recipe["models"]) == ("iris:3", "score.py", ["iris:2"])


def test_update_of_several_models_wants_references(run: Run, fake: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "new.pkl").write_bytes(b"x")
    fake.answer("GET", "/v1/services/iris", service(models=["a:1", "b:2"]))
    with pytest.raises(InvalidOption, match="uses 2 models \\(a:1, b:2\\)"):
        run("services.update", "iris", model_files=[tmp_path / "new.pkl"])
    with pytest.raises(UserError, match="Nothing to change"):
        run("services.update", "iris")
    with pytest.raises(InvalidOption, match="not both"):
        run("services.update", "iris", image="iris:1", models=["iris:1"])
    assert fake.blobs == {}


def test_scoring_goes_to_the_gateway_with_the_key_and_without_our_token(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/services/iris/usage", usage(f"{fake.url}/score", {"x": [1]}))
    fake.answer("GET", "/v1/services/iris/keys", KEYS)
    fake.answer("GET", "/v1/services/iris", service())
    fake.answer("POST", "/score", {"answer": "ä"})
    assert run("services.run", "iris") == {"answer": "ä"}
    assert run("services.run", "iris", "raw text") == {"answer": "ä"}
    sample, raw = fake.asked("POST", "/score")
    assert (sample.json, sample.headers["authorization"]) == ({"x": [1]}, "Bearer p")
    assert (raw.body, raw.headers["content-type"]) == (b"raw text", "application/json")
    fake.answer("POST", "/score", Answer(b"\x89PNG", headers={"Content-Type": "image/png"}))
    assert run("services.run", "iris", b"\x00", content_type="image/png") == b"\x89PNG"
    fake.answer("POST", "/score", error(504, "timeout", "too slow"))
    with pytest.raises(Error, match="too slow") as caught:
        run("services.run", "iris")
    assert (caught.value.code, caught.value.exit_code) == ("timeout", 2)


def test_scoring_without_a_sample_wants_data(run: Run, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/services/iris/usage", usage(f"{fake.url}/score"))
    fake.answer("GET", "/v1/services/iris/keys", KEYS)
    fake.answer("GET", "/v1/services/iris", service())
    with pytest.raises(InvalidOption, match="no stored sample"):
        run("services.run", "iris")
    with pytest.raises(InvalidOption, match="not a JSON value"):
        run("services.run", "iris", {"x": float("nan")})


def test_logs_are_records_line_by_line(run: Run, fake: FakeControlPlane) -> None:
    lines = b'{"message": "a"}\n\nFatal Python error\n{"message": "b"}'
    fake.answer("GET", "/v1/services/iris/logs", Answer(lines))
    found = list(run("services.logs", "iris", lines=3, request_id="r1"))
    assert found == [{"message": "a"}, {"message": "Fatal Python error"}, {"message": "b"}]
    assert fake.seen[0].query == {"lines": "3", "request_id": "r1"}
    fake.answer("GET", "/v1/services/iris/logs", error(404, "service_not_found", "no iris"))
    with pytest.raises(Error, match="no iris"):
        list(run("services.logs", "iris"))


def test_waiting_for_a_service(run: Run, fake: FakeControlPlane) -> None:
    said: list[str] = []
    fake.answer("GET", "/v1/operations", page(operation(id="7", state="running")), page())
    fake.answer("GET", "/v1/operations/7", operation(id="7", state="succeeded", messages=["Image iris:2"]))
    fake.answer("GET", "/v1/services/iris", service(state="deploying", reason="0 of 2"), service())
    assert run("services.wait", "iris", on_message=said.append).state == "healthy"
    assert said == ["Image iris:2", "deploying: 0 of 2"], "what works on it is waited for first"
    fake.answer("GET", "/v1/operations", page(operation(id="7", state="running")))
    fake.answer("GET", "/v1/operations/7", operation(id="7", state="failed", error={"code": "x", "message": "no"}))
    with pytest.raises(Error, match="no"):
        run("services.wait", "iris")
    fake.answer("GET", "/v1/operations", page())
    fake.answer("GET", "/v1/services/iris", service(state="stopped", reason="scaled to 0 replicas"))
    assert run("services.wait", "iris").state == "stopped"
    fake.answer("GET", "/v1/services/iris", service(state="failed", reason="init() raised."))
    with pytest.raises(Error, match="init\\(\\) raised"):
        run("services.wait", "iris")
    fake.answer("GET", "/v1/services/iris", service(state="degraded", reason="1 of 2"))
    with pytest.raises(Error, match="longer than 0 s"):
        run("services.wait", "iris", 0)


def test_both_clients_have_the_same_calls_and_signatures(fake: FakeControlPlane) -> None:
    blocking, other = Client(fake.url, "t"), AsyncClient(fake.url, "t")
    for noun in ("models", "manifests", "images", "environments", "services", "operations"):
        left, right = getattr(blocking, noun), getattr(other, noun)
        names = [name for name in dir(left) if not name.startswith("_")]
        assert names == [name for name in dir(right) if not name.startswith("_")]
        for name in names:
            assert getattr(left, name).__doc__ == getattr(right, name).__doc__
            if name != "logs":
                assert inspect.signature(getattr(left, name)) == inspect.signature(getattr(right, name))
    parameters = list(inspect.signature(blocking.models.register).parameters)
    assert parameters[:2] == ["path", "name"]
    assert inspect.signature(blocking.models.register).return_annotation is Model
