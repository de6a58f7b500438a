"""Status codes, headers and bodies of the data plane, against a real replica."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

ARRAY = {"input": {"x": {"type": "numpy", "dtype": "float64", "shape": [None, 4], "example": [[1, 2, 3, 4]]}}}
SCRIPT = """
import time
from argosy_serving import Response

def init():
    global factor
    factor = 2

def run(x, request):
    what = request.headers.get("x-do", "")
    if what == "raise":
        raise ValueError("a secret detail")
    if what == "exit":
        import sys
        sys.exit(1)
    if what == "object":
        return object()
    if what == "response":
        return Response(b"\\x00\\x01", 201, {"X-Mine": "yes", "Content-Type": "image/png"})
    if what == "sleep":
        time.sleep(float(request.headers["x-seconds"]))
    if what == "who":
        return {"id": request.id, "caller": request.caller, "headers": sorted(request.headers)}
    return (x * factor).sum(axis=1)
"""


@pytest.fixture
def running(replica: Any) -> Any:
    replica.write_image(SCRIPT, ARRAY, [{"input": {"x": [[1, 2, 3, 4]]}, "output": [20.0]}], {"iris": {"m.bin": b"1"}})
    return replica.start()


GOOD = {"x": [[1, 2, 3, 4], [0.5, 0, 0, 0]]}


def test_answers_with_and_without_prefix(running: Any) -> None:
    for url in ("/score", "/api/v1/service/iris/score"):
        reply = running.score(GOOD, url=url)
        assert (reply.status, reply.json) == (200, [20.0, 1.0])
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["x-argosy-revision"] == "3"
        assert reply.headers["x-argosy-model"] == "iris:1"
        assert [part.split(";")[0] for part in reply.headers["server-timing"].split(", ")] == [
            "queue", "decode", "run", "encode",
        ]  # fmt: skip


def test_request_ids_and_traces(running: Any) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    reply = running.score(GOOD, {"x-request-id": "mine 1", "traceparent": trace})
    assert (reply.headers["x-request-id"], reply.headers["traceparent"]) == ("mine 1", trace)
    for bad in ("x" * 129, "caf\u00e9"):
        reply = running.score(GOOD, {"x-request-id": bad, "traceparent": "no"})
        assert len(reply.headers["x-request-id"]) == 32
        assert "traceparent" not in reply.headers
    assert running.score(b"", {"x-request-id": "on-errors-too"}).headers["x-request-id"] == "on-errors-too"


def test_keys(running: Any) -> None:
    assert running.score(GOOD, {"authorization": "Bearer the-secondary-key"}).status == 200
    assert running.score(GOOD, {"authorization": "bearer the-primary-key"}).status == 200
    basic = base64.b64encode(b"any:the-primary-key").decode()
    for wrong in ("Bearer nope", "Bearer ", "", "the-primary-key", f"Basic {basic}", "Bearer \u00ff"):
        reply = running.score(GOOD, {"authorization": wrong})
        assert (reply.status, reply.error["code"]) == (401, "unauthorized")
        assert reply.headers["www-authenticate"] == 'Bearer realm="iris"'


def test_paths_and_methods(running: Any) -> None:
    prefix = "/api/v1/service/iris"
    for url in ("/nothing", "/api/v1/service/other/score", f"{prefix}/livez", f"{prefix}/readyz", f"{prefix}/metrics",
                f"{prefix}/../../../../metrics", f"{prefix}/%2e%2e/metrics", "/docs/../app.py", "/SCORE"):  # fmt: skip
        reply = running.get(url)
        assert (reply.status, reply.error["code"]) == (404, "not_found"), url
    for url in ("/score", f"{prefix}/score"):
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            reply = running.get(url, method=method)
            assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert running.get("/", method="POST").status == 405
    for url in ("/", f"{prefix}/", prefix):
        assert running.get(url).json == "Healthy"
    head = running.get("/livez", method="HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    ("body", "pointer", "expected", "received"),
    [
        (b"", "", "a JSON object with x", "an empty body"),
        (b"{", "", "valid JSON", "something else: unexpected end of data: line 1 column 2 (char 1)"),
        (b"[1]", "", "a JSON object with x", "an array of 1"),
        (b"{}", "/x", "this input", "nothing"),
        (b'{"x":[],"y/z":1}', "/y~1z", "a JSON object with x", "an unknown input"),
        (b'{"x":[[1,2,3]]}', "/x/0", "an array of 4", "an array of 3"),
        (b'{"x":[[1,2,3,"4"]]}', "/x/0/3", "a number (float64)", "the string '4'"),
        (b'{"x":[[1,2,3,null]]}', "/x/0/3", "a number (float64)", "null"),
        (b'{"x":1}', "/x", "an array of 2 dimensions", "the number 1"),
    ],
)
def test_bad_input_names_the_field(bad_input: Any, body: bytes, pointer: str, expected: str, received: str) -> None:
    reply = bad_input(body)
    assert (reply.status, reply.error["code"]) == (400, "invalid_input")
    assert reply.error["details"] == {"pointer": pointer, "expected": expected, "received": received}


@pytest.fixture(scope="module")
def bad_input() -> Any:
    """One decode-only stand-in for nine cases: the same Scorer a replica uses, without its process."""
    from pathlib import Path

    from argosy_serving.schema import parse_schema
    from argosy_serving.scoring import Scorer, Work
    from argosy_serving.scripts import Script

    schema = parse_schema(ARRAY)
    schema.prepare()
    scorer = Scorer(Script(Path("s"), None, lambda x: None, False, "", False, False, False), schema, False)

    class Answered:
        def __init__(self, work: Work) -> None:
            assert work.problem is not None
            self.status, self.error = work.problem.status, json.loads(work.problem.body())["error"]

    def send(body: bytes) -> Answered:
        work = Work(body, {}, "1", "")
        scorer.score(work)
        return Answered(work)

    return send


def test_bad_input_over_the_wire(running: Any) -> None:
    reply = running.score({"x": [[1, 2, 3, "4"]]})
    assert reply.status == 400
    assert reply.error["details"]["pointer"] == "/x/0/3"
    assert reply.error["message"] == "/x/0/3: expected a number (float64), received the string '4'."


def test_content_types(running: Any) -> None:
    curls = "application/x-www-form-urlencoded"
    for good in (
        "application/json; charset=utf-8",
        "text/plain",
        "application/vnd.api+json",
        "Application/JSON",
        curls,
    ):
        assert running.score(GOOD, {"content-type": good}).status == 200
    assert running.score(b"x=1", {"content-type": curls}).status == 400
    for bad in ("application/octet-stream", "image/png"):
        reply = running.score(GOOD, {"content-type": bad})
        assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")
    for kind, value in (("content-type", "multipart/form-data; boundary=x"), ("content-encoding", "gzip")):
        assert running.score(GOOD, {kind: value}).status == 400, "readable, but the body is not one"
    assert running.score(GOOD, {"content-encoding": "br"}).status == 415
    assert running.score(GOOD, {"content-encoding": "identity"}).status == 200


def test_a_script_that_raises(running: Any, until: Callable[..., Any]) -> None:
    for what in ("raise", "exit"):
        reply = running.score(GOOD, {"x-do": what, "x-request-id": f"boom-{what}"})
        assert (reply.status, reply.error["code"]) == (500, "scoring_failed")
        assert b"secret detail" not in reply.body
        assert b"Traceback" not in reply.body
        found = until(lambda: [e for e in running.log() if e["request_id"] == f"boom-{what}"])  # noqa: B023
        assert "Traceback" in found[0]["exception"]
        assert "score.py" in found[0]["exception"]
    assert running.score(GOOD).status == 200


def test_answers_that_are_no_json(running: Any) -> None:
    reply = running.score(GOOD, {"x-do": "object"})
    assert (reply.status, reply.error["code"]) == (500, "scoring_failed")
    assert "object" in reply.error["message"]


def test_a_response_object(running: Any) -> None:
    reply = running.score(GOOD, {"x-do": "response"})
    assert (reply.status, reply.body) == (201, b"\x00\x01")
    assert (reply.headers["x-mine"], reply.headers["content-type"]) == ("yes", "image/png")


def test_the_request_parameter(running: Any) -> None:
    seen = running.score(GOOD, {"x-do": "who", "x-request-id": "r1"}).json
    assert seen["id"] == "r1"
    assert len(seen["caller"]) == 8
    assert "authorization" not in seen["headers"]
    other = running.score(GOOD, {"x-do": "who", "authorization": "Bearer the-secondary-key"}).json
    assert other["caller"] != seen["caller"]


def test_the_callers_deadline(running: Any) -> None:
    reply = running.score(GOOD, {"x-do": "sleep", "x-seconds": "0.4", "x-request-timeout-ms": "100"})
    assert (reply.status, reply.error["code"]) == (504, "timeout")
    # The slot is still busy: this one must wait, and says so by how long it took to start.
    assert running.score(GOOD).status == 200
    for bad in ("0", "-1", "soon", "1.5", "9" * 30):
        assert running.score(GOOD, {"x-request-timeout-ms": bad}).status == 400


def test_metrics(running: Any) -> None:
    running.score(GOOD)
    running.score(b"{")
    text = running.get("/metrics").body.decode()
    labels = 'service="iris",revision="3",model="iris",model_version="1"'
    assert f'argosy_requests_total{{{labels},code="200"}} 1' in text
    assert f'argosy_requests_total{{{labels},code="400"}} 1' in text
    assert f'argosy_request_seconds_count{{{labels},stage="run"}} 1' in text
    assert f'argosy_request_seconds_bucket{{{labels},stage="total",le="+Inf"}} 1' in text
    for gauge in ("queue_depth", "in_flight", "concurrency_limit", "stuck"):
        assert f"argosy_{gauge}{{{labels}}}" in text


def test_status(running: Any) -> None:
    import hashlib

    status = running.admin("GET", "/status").json
    spec = (running.folder / "spec.json").read_bytes()
    assert status["spec_sha256"] == hashlib.sha256(spec).hexdigest()
    assert (status["id"], status["service"], status["revision"]) == ("iris-1-abc", "iris", 3)
    assert (status["state"], status["generation"], status["pid"]) == ("ready", 1, running.process.pid)
    assert (running.sock.stat().st_mode & 0o777, running.admin_socket.stat().st_mode & 0o777) == (0o600, 0o600)
