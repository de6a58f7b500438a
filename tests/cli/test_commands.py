"""Commands against a control plane: what they ask, print, and exit with."""

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from argosy.cli import app
from argosy.cli.app import main
from cli.conftest import Argosy
from sdk.fake_control_plane import TOKEN, Answer, FakeControlPlane, error, model, operation, page, service, usage

KEYS = {"primary": "pk", "secondary": "sk"}
DONE = operation(messages=["Building", "Live"], result={"service": "iris"})


def test_register_prints_the_version(argosy: Argosy, fake: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "iris.pkl").write_bytes(b"weights")
    inspection = {"format": "pickle", "findings": ["calls os.system\x1b[2J"]}
    fake.answer("POST", "/v1/models", model(2, tags={"stage": "dev"}, inspection=inspection), status=201)
    ran = argosy(
        "model", "register", str(tmp_path / "iris.pkl"), "-n", "iris", "-t", "stage=dev", "--metric", "acc=0.9"
    )
    assert ran.code == 0
    assert "iris:2" in ran.out
    assert "warning: calls os.system\\x1b[2J" in ran.err
    sent = fake.asked("POST", "/v1/models")[0].json
    assert (sent["tags"], sent["metrics"]) == ({"stage": "dev"}, {"acc": 0.9})


def test_a_list_in_three_forms(argosy: Argosy, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/models", page(model(3, description="d" * 200, aliases=["prod"])))
    table = argosy("model", "list").out
    assert table.splitlines()[0].split()[:3] == ["NAME", "VERSION", "KIND"]
    assert "d" * 200 in table
    assert json.loads(argosy("model", "list", "-o", "json").out)[0]["version"] == 3
    assert yaml.safe_load(argosy("model", "list", "-o", "yaml").out)[0]["aliases"] == ["prod"]
    fake.answer("GET", "/v1/models", page())
    assert "argosy model register" in argosy("model", "list").out
    assert json.loads(argosy("model", "list", "-o", "json").out) == []


def test_show_says_who_uses_each_version(argosy: Argosy, fake: FakeControlPlane) -> None:
    used = {"manifests": ["iris:1"], "images": ["iris:1"], "services": ["iris"], "revisions": ["iris/2", "old/1"]}
    fake.answer("GET", "/v1/models/iris", page(model(2), model(1, used_by=used)))
    text = argosy("model", "show", "iris").out
    assert "service iris (iris/2), revision old/1, image iris:1, manifest iris:1" in text
    fake.answer("GET", "/v1/models/iris/prod", model(1))
    assert "model.pkl" in argosy("model", "show", "iris@prod").out


@pytest.mark.parametrize(
    ("line", "method", "path", "answer"),
    [
        ("model delete iris:1", "DELETE", "/v1/models/iris/1", None),
        ("manifest delete iris:1", "DELETE", "/v1/manifests/iris/1", None),
        ("image delete iris:1", "DELETE", "/v1/images/iris/1", None),
        ("env delete test", "DELETE", "/v1/environments/test", None),
        ("service delete iris", "DELETE", "/v1/services/iris", DONE),
    ],
)
def test_deletions_ask_first(
    argosy: Argosy, fake: FakeControlPlane, line: str, method: str, path: str, answer: Any
) -> None:
    lock = {"python": "3.12", "text": ""}
    recipe = {"models": [], "runtime": "python:3.12", "script": "score.py", "files": [], "lock": lock}
    manifest = {"name": "iris", "version": 1, "digest": "d", "recipe": recipe, "created_at": ""}
    image = {"name": "iris", "version": 1, "digest": "d", "manifest": "iris:1", "manifest_digest": "d", "models": [],
             "layers": [], "environment_key": "e", "serving_runtime": "1", "entrypoint": [], "labels": {},
             "created_at": ""}  # fmt: skip
    fake.answer("GET", "/v1/models/iris/1", model(1))
    fake.answer("GET", "/v1/manifests/iris/1", manifest)
    fake.answer("GET", "/v1/images/iris/1", image)
    fake.answer("GET", "/v1/environments/test", {"name": "test", "kind": "process", "created_at": ""})
    fake.answer("GET", "/v1/services/iris", service())
    fake.answer("GET", "/v1/operations/op1", DONE)
    fake.answer(method, path, answer)
    refused = argosy(*line.split())
    assert (refused.code, "--yes" in refused.err, fake.asked(method, path)) == (1, True, [])
    done = argosy(*line.split(), "--yes")
    assert (done.code, "is deleted" in done.out, len(fake.asked(method, path))) == (0, True, 1)


def test_create_shows_progress_then_the_service(argosy: Argosy, fake: FakeControlPlane) -> None:
    fake.answer("POST", "/v1/services", operation("running"), status=202)
    fake.answer("GET", "/v1/operations/op1", DONE)
    fake.answer("GET", "/v1/services/iris", service())
    line = "service create iris --image iris:1 -z 2 -e A=1 --max-queued-requests 5"
    ran = argosy(*line.split(" "))
    assert ran.code == 0
    assert ran.err.splitlines() == ["create iris: Building", "create iris: Live"]
    assert "http://127.0.0.1:7780/x/score" in ran.out
    sent = fake.asked("POST", "/v1/services")[0].json
    assert sent["settings"] == {"max_queued_requests": 5, "environment": {"A": "1"}}


def test_without_waiting_the_operation_is_the_answer(argosy: Argosy, fake: FakeControlPlane) -> None:
    fake.answer("PATCH", "/v1/services/iris", operation("pending"), status=202)
    ran = argosy("service", "scale", "iris", "-z", "3", "--no-wait")
    assert (ran.code, "argosy service show iris" in ran.out) == (0, True)
    assert json.loads(argosy("service", "scale", "iris", "-z", "3", "--no-wait", "-o", "json").out)["id"] == "op1"


def test_variables_of_an_update_are_laid_over_those_in_force(argosy: Argosy, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/services/iris", service(settings={"environment": {"A": "1", "B": "1"}}))
    fake.answer("PATCH", "/v1/services/iris", operation(), status=202)
    assert argosy("service", "update", "iris", "-e", "B=2", "--no-wait").code == 0
    sent = fake.asked("PATCH", "/v1/services/iris")[0].json
    assert sent == {"settings": {"environment": {"A": "1", "B": "2"}}}


def test_a_failed_deployment_prints_its_last_log_lines(argosy: Argosy, fake: FakeControlPlane) -> None:
    failure = {"code": "deploy_failed", "message": "init() raised", "details": {"log": ["one\ntwo", "three\x1b[2J"]}}
    fake.answer("PATCH", "/v1/services/iris", operation("running"), status=202)
    fake.answer("GET", "/v1/operations/op1", operation("failed", error=failure))
    ran = argosy("service", "update", "iris", "--image", "iris:2")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == ["error: init() raised", "  | one", "  | two", "  | three\\x1b[2J"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [(error(400, "invalid_option", "wrong"), 1), (error(404, "model_not_found", "gone"), 1),
     (error(500, "x", "bad"), 2),
     (error(503, "not_running", "away"), 2), (Answer(b"<html>"), 2)],
)  # fmt: skip
def test_exit_codes_follow_the_error(argosy: Argosy, fake: FakeControlPlane, answer: Answer, code: int) -> None:
    fake.answer("GET", "/v1/models", answer)
    ran = argosy("model", "list")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")


def test_nothing_runs(argosy: Argosy, home: Path) -> None:
    ran = argosy("model", "list", ARGOSY_URL="")
    assert ran.code == 2
    assert ran.err == f"error: No control plane answers at {home}. Start it with `argosy up`.\n"


def test_a_defect_is_one_line_and_a_traceback_in_the_home(
    argosy: Argosy, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(app, "_run", broken)
    ran = argosy("model", "list")
    log = home / "logs" / "cli-crash.log"
    assert ran.code == 2
    assert ran.err.startswith("error: this is a defect of argosy: ZeroDivisionError: boom\n")
    assert str(log) in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in log.read_text()
    log.write_bytes(b"x" * 1_000_001)
    argosy("model", "list")
    assert log.stat().st_size < 10_000
    assert "could not be kept" in argosy("model", "list", ARGOSY_HOME="/proc/none").err


def test_an_interrupt_says_what_goes_on(
    argosy: Argosy, fake: FakeControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argosy.sdk.client import Services

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Services, "scale", interrupted)
    ran = argosy("service", "scale", "iris", "-z", "1")
    assert ran.code == 130
    assert "`argosy service show iris` shows how it stands" in ran.err


def test_a_reader_that_has_gone_is_no_error(
    fake: FakeControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(os, "dup2", lambda *_: None)
    fake.answer("GET", "/v1/models", page())
    err = io.StringIO()
    environ = {"ARGOSY_HOME": str(tmp_path), "ARGOSY_URL": fake.url, "ARGOSY_TOKEN": TOKEN}
    assert main(["model", "list"], Gone(), err, environ) == 0
    assert err.getvalue() == ""


@pytest.fixture
def scored(fake: FakeControlPlane) -> FakeControlPlane:
    fake.answer("GET", "/v1/services/iris/usage", usage(f"{fake.url}/score", {"x": 1}))
    fake.answer("GET", "/v1/services/iris/keys", KEYS)
    fake.answer("GET", "/v1/services/iris", service())
    fake.answer("POST", "/score", ["setosa", "ä"])
    return fake


def test_run_prints_the_answer(argosy: Argosy, scored: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text('{"x": 2}')
    assert argosy("service", "run", "iris").out == '["setosa", "ä"]\n'
    assert argosy("service", "run", "iris", "-d", f"@{tmp_path / 'body.json'}").code == 0
    assert json.loads(argosy("service", "run", "iris", "-d", '{"x": 3}', "-o", "json").out) == ["setosa", "ä"]
    assert [json.loads(seen.body)["x"] for seen in scored.asked("POST", "/score")] == [1, 2, 3]
    assert {seen.headers["content-type"] for seen in scored.asked("POST", "/score")} == {"application/json"}
    missing = argosy("service", "run", "iris", "-d", "@gone.json")
    assert (missing.code, "gone.json: cannot be read" in missing.err) == (1, True)
    scored.answer("POST", "/score", error(400, "invalid_input", "at /x: a number is wanted"))
    refused = argosy("service", "run", "iris")
    assert (refused.code, refused.err) == (1, "error: at /x: a number is wanted\n")
    scored.answer("POST", "/score", Answer(b"caf\xc3\xa9\x1b", headers={"Content-Type": "text/plain"}))
    assert argosy("service", "run", "iris").out == "café\\x1b\n"


def test_usage_and_keys(argosy: Argosy, scored: FakeControlPlane) -> None:
    text = argosy("service", "usage", "iris").out
    for part in (
        "/score",
        "Bearer <key>",
        '{"x": 1}',
        "curl ...",
        "argosy service keys iris",
        "argosy service logs iris",
    ):
        assert part in text
    assert argosy("service", "keys", "iris", "--show", "primary").out == "pk\n"
    assert json.loads(argosy("service", "keys", "iris", "-o", "json").out) == KEYS
    scored.answer("POST", "/v1/services/iris/keys/secondary", {"primary": "pk", "secondary": "new"})
    ran = argosy("service", "keys", "iris", "--regenerate", "secondary")
    assert "new" in ran.out
    assert "secondary key is new" in ran.err


def test_logs_are_lines_or_json(argosy: Argosy, fake: FakeControlPlane) -> None:
    record = {"timestamp": "t", "level": "error", "logger": "x", "message": "two\nlines\x1b", "request_id": "r",
              "replica": "iris-1", "exception": "Traceback:\n  boom"}  # fmt: skip
    fake.answer("GET", "/v1/services/iris/logs", Answer(json.dumps(record).encode() + b"\n"))
    text = argosy("service", "logs", "iris", "-n", "5", "-r", "r").out
    assert text == "t error iris-1 r two\\x0alines\\x1b\nTraceback:\n  boom\n"
    assert fake.seen[0].query == {"lines": "5", "request_id": "r"}
    assert json.loads(argosy("service", "logs", "iris", "-o", "json").out) == record
    assert list(yaml.safe_load_all(argosy("service", "logs", "iris", "-o", "yaml").out)) == [record]


def test_the_three_stages_by_hand(argosy: Argosy, fake: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def run(x): ...")
    pin = {"name": "iris", "version": 1, "digest": "d"}
    lock = {"python": "3.12", "text": "", "packages": {"numpy": "2.0"}}
    recipe = {"models": [pin], "runtime": "python:3.12", "script": "score.py", "files": [], "lock": lock}
    manifest = {"name": "iris", "version": 2, "digest": "d", "recipe": recipe, "created_at": "", "notes": ["a note"]}
    fake.answer("POST", "/v1/manifests", operation(result={"manifest": "iris:2"}), status=202)
    fake.answer("GET", "/v1/operations/op1", operation(result={"manifest": "iris:2"}))
    fake.answer("GET", "/v1/manifests/iris/2", manifest)
    fake.answer("GET", "/v1/manifests/iris/latest", manifest)
    ran = argosy("manifest", "create", "-n", "iris", "-i", "iris:1", "-f", str(tmp_path / "score.py"), "--no-wait")
    assert ran.code == 0
    for part in ("iris:2", "iris:1", "score.py", "a note"):
        assert part in ran.out
    assert "numpy" in argosy("manifest", "show", "iris").out
    renewed = argosy("manifest", "create", "--from", "iris:1", "-i", "iris:2")
    assert renewed.code == 0
    assert fake.asked("POST", "/v1/manifests")[1].json == {"name": "iris", "from": "iris:1", "models": ["iris:2"]}


def test_status_of_what_runs_and_of_what_does_not(argosy: Argosy, fake: FakeControlPlane, home: Path) -> None:
    gateway = {"url": "http://127.0.0.1:7780", "pid": 7, "version": "2.8", "services": ["iris", "tips"]}
    fake.answer("GET", "/v1/status", {"version": "9", "pid": 5, "url": fake.url, "home": str(home), "started_at": "",
                                      "gateway": gateway, "counts": {"services": 1}})  # fmt: skip
    fake.answer("GET", "/v1/services", page(service()))
    found = json.loads(argosy("status", "-o", "json").out)
    assert (found["state"], found["pid"], found["gateway"], found["services"][0]["name"]) == (
        "running",
        5,
        gateway,
        "iris",
    )
    shown = argosy("status").out
    assert "http://127.0.0.1:7780" in shown and "iris, tips" in shown
    stopped = argosy("status", "-o", "json", ARGOSY_URL="")
    assert (stopped.code, json.loads(stopped.out)) == (0, {"state": "stopped", "home": str(home), "url": None})


def test_commands_may_run_side_by_side(argosy: Argosy, fake: FakeControlPlane) -> None:
    fake.answer("GET", "/v1/models", page(model()))
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(argosy("model", "list").code)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4


def tuned(**current: object) -> dict[str, object]:
    point = {"clients": 1, "rate": 100.0, "p50_ms": 1.0, "p99_ms": 2.0, "cores": 1.0}
    plain = {"slots": 1, "batch": 1, "points": [point], "able": True, "reason": "", "knee": 1}
    unable = {"slots": 1, "batch": 32, "points": [], "able": False, "reason": "it is async", "knee": None}
    proposal = {"max_concurrent_requests": 1, "max_batch_size": 1, "max_queued_requests": 9, "replicas": 2,
                "rate": 140.0, "reasons": ["no batches: it is async"]}  # fmt: skip
    now = {"max_batch_size": 1, "autoscale_enabled": False, "max_replicas": 10}
    return {"service": "iris", "curves": [plain, unable], "proposal": proposal, "current": now | current}


@pytest.mark.parametrize(
    ("current", "options"),
    [({}, " -z 2"), ({"max_batch_size": 8}, " --max-batch-size 1 -z 2"), ({"autoscale_enabled": True}, "")],
)
def test_the_command_of_a_tuning(
    argosy: Argosy, fake: FakeControlPlane, current: dict[str, object], options: str
) -> None:
    fake.answer("GET", "/v1/services/iris/tuning", tuned(**current))
    ran = argosy("service", "tune", "iris", "--last")
    wanted = "argosy service update iris --max-concurrent-requests 1 --max-queued-requests 9"
    assert (ran.code, ran.out.splitlines()[-1]) == (0, wanted + options)
    told = "the 10 of max_replicas carry 700 requests/s, --max-replicas 2 would carry 140"
    assert (told in ran.out) == ("autoscale_enabled" in current)


def test_the_batches_of_a_service(argosy: Argosy, fake: FakeControlPlane) -> None:
    def shown(**serving: object) -> str:
        recipe = {"models": [], "runtime": "python:3.12", "script": "score.py", "files": [], "serving": serving,
                  "lock": {"python": "3.12", "text": ""}}  # fmt: skip
        found = {"name": "iris", "version": 1, "digest": "d", "recipe": recipe, "created_at": ""}
        fake.answer("GET", "/v1/manifests/iris/1", found)
        return argosy("service", "show", "iris").out

    fake.answer("GET", "/v1/services/iris", service(manifest="iris:1"))
    assert "up to 8 rows, waiting 5 ms for more" in shown(max_batch_size=8, max_batch_delay_ms=5)
    assert "up to 8 rows, of what waits already" in shown(max_batch_size=8)
    assert "batches" not in shown()
