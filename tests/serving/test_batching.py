"""Several requests in one call of `run`: joined, answered each with its own, and failing each alone."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from argosy_serving.batching import split
from serving.wire import connected, post

NUMBERS = {"input": {"x": {"type": "numpy", "dtype": "float64", "shape": [None, 2], "example": [[1, 2]]}}}
FRAME = {
    "input": {
        "table": {
            "type": "pandas",
            "columns": [{"name": "a", "dtype": "float64"}, {"name": "s", "dtype": "str"}],
            "example": [{"a": 1, "s": "x"}],
        }
    }
}
LISTS = {"input": {"words": {"type": "standard", "swagger": {"type": "array", "items": {"type": "string"}}}}}
# `block` holds the slot until the others wait behind it.
SCRIPT = """
import time
calls = []
def run(x):
    if len(x) == 1 and x[0, 0] == -1:
        time.sleep(1.0)
        return [0.0]
    calls.append(len(x))
    if (x == 13).any():
        raise ValueError("thirteen")
    return {"sum": x.sum(axis=1), "calls": str(calls)}
"""


def together(replica: Any, bodies: list[Any], block: Any, headers: dict[str, str] | None = None) -> list[Any]:
    """The replies to `bodies`, which all waited while `block` ran."""
    blocked = replica.aside(block)
    replies: list[Any] = [None] * len(bodies)

    def call(number: int) -> None:
        replies[number] = replica.score(bodies[number], headers)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(bodies))]
    while replica.admin("GET", "/status").json["in_flight"] == 0:
        pass
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del blocked
    return replies


def start(replica: Any, script: str, schema: Any, size: int = 8, delay_ms: float = 0, **settings: Any) -> Any:
    replica.write_image(script, schema, serving={"max_batch_size": size, "max_batch_delay_ms": delay_ms})
    replica.write_settings(max_queue_wait_ms=20_000, **settings)
    return replica.start()


def test_what_waits_is_joined_and_everybody_gets_his_own(replica: Any) -> None:
    start(replica, SCRIPT, NUMBERS)
    bodies = [{"x": [[n, 1]] * (1 + n % 2)} for n in range(5)]
    replies = together(replica, bodies, {"x": [[-1, 0]]})
    assert [reply.json["sum"] for reply in replies] == [[n + 1] * (1 + n % 2) for n in range(5)]
    calls = json.loads(replies[0].json["calls"])
    assert sum(calls) == 7
    assert max(calls) > 1, "they waited together"
    metrics = replica.get("/metrics").body.decode()
    assert "argosy_batch_requests_bucket" in metrics
    assert 'argosy_concurrency_limit{service="iris",revision="3",model="",model_version=""} 8' in metrics


def test_no_batch_has_more_rows_than_it_may(replica: Any) -> None:
    start(replica, SCRIPT, NUMBERS, size=4)
    bodies = [{"x": [[n, 0]] * 3} for n in range(4)] + [{"x": [[9, 0]] * 9}]
    replies = together(replica, bodies, {"x": [[-1, 0]]})
    assert [len(reply.json["sum"]) for reply in replies] == [3, 3, 3, 3, 9]
    calls = json.loads(replica.score({"x": [[0, 0]]}).json["calls"])
    # The one that blocks may be joined too, when the others come before its slot has taken it.
    assert max(sorted(calls)[:-1]) <= 4, "two of three rows do not fit together"
    assert max(calls) == 9, "a request that is larger than a batch runs alone"


def test_one_bad_row_fails_only_its_own_request(replica: Any) -> None:
    start(replica, SCRIPT, NUMBERS)
    bodies = [{"x": [[1, 1]]}, {"x": [[13, 0]]}, {"x": [[2, "two"]]}, {"x": [[3, 1]]}, b"{", {"x": [[True, 1]]}]
    replies = together(replica, bodies, {"x": [[-1, 0]]})
    assert [reply.status for reply in replies] == [200, 500, 400, 200, 400, 400]
    assert replies[0].json["sum"] == [2]
    assert replies[3].json["sum"] == [4]
    assert replies[2].error["details"]["pointer"] == "/x/0/1"
    assert replies[5].error["details"]["pointer"] == "/x/0/0"
    lines = [line for line in replica.log() if "thirteen" in line.get("exception", "")]
    assert [line["request_id"] for line in lines] == [replies[1].headers["x-request-id"]]


def test_frames(replica: Any) -> None:
    script = """
import time
def run(table):
    if table.a[0] == -1:
        time.sleep(1.0)
    return table.assign(n=len(table))
"""
    start(replica, script, FRAME)
    bodies: list[Any] = [{"table": [{"a": n, "s": f"s{n}"}]} for n in range(4)]
    bodies.append({"input_data": {"columns": ["a", "s"], "index": [7], "data": [[4, "s4"]]}})
    replies = together(replica, bodies, {"table": [{"a": -1, "s": ""}]})
    assert [(reply.json[0]["a"], reply.json[0]["s"]) for reply in replies] == [(n, f"s{n}") for n in range(5)]
    assert max(reply.json[0]["n"] for reply in replies) > 1


def test_lists(replica: Any) -> None:
    script = """
import time
def run(words):
    if words == ["wait"]:
        time.sleep(1.0)
    return [(word.upper(), len(words)) for word in words]
"""
    start(replica, script, LISTS)
    replies = together(replica, [{"words": [f"w{n}"]} for n in range(4)], {"words": ["wait"]})
    assert [reply.json[0][0] for reply in replies] == ["W0", "W1", "W2", "W3"]
    assert max(reply.json[0][1] for reply in replies) > 1


def test_arrow_and_json_in_one_batch(replica: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    start(replica, "import time\ndef run(table):\n    time.sleep(0.5)\n    return table.assign(n=len(table))", FRAME)
    arrow = {"content-type": "application/vnd.apache.arrow.stream", "accept": "application/vnd.apache.arrow.stream"}
    blocked = replica.aside({"table": [{"a": 0, "s": "first"}]})
    others = [replica.aside({"table": [{"a": n, "s": "json"}]}) for n in range(3)]
    reply = replica.score(_arrow(5.0), arrow)
    assert reply.headers["content-type"] == arrow["accept"]
    assert pa.ipc.open_stream(reply.body).read_all().to_pylist()[0]["s"] == "arrow"
    for thread in replica.threads:
        thread.join()
    assert [other[0].json[0]["a"] for other in others] == [0, 1, 2]
    assert blocked[0].status == 200


def test_requests_that_will_not_go_together_are_run_alone(replica: Any) -> None:
    """Rules of numpy and pandas that nobody foresaw, played by a patch: no slot is lost, and everybody is answered."""
    pytest.importorskip("pyarrow")
    patch = "import argosy_serving.batching as b\ndef no(values): raise ValueError('never')\nb._concatenated = no\n"
    start(replica, f"{patch}import time\ndef run(table):\n    time.sleep(0.3)\n    return table", FRAME)
    bodies = [_arrow(5.0), json.dumps({"table": [{"a": 6, "s": "json"}]}).encode()]
    types = ["application/vnd.apache.arrow.stream", "application/json"]
    for _ in range(10):
        replica.aside({"table": [{"a": 0, "s": "first"}]})
        with ThreadPoolExecutor(2) as callers:
            replies = list(callers.map(lambda n: replica.score(bodies[n], {"content-type": types[n]}), range(2)))
        assert [reply.json[0]["a"] for reply in replies] == [5, 6]
        if "could not be joined" in replica.log_text():
            return
    raise AssertionError("they never waited together")


def _arrow(value: float) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    batch = pa.record_batch({"a": [value], "s": ["arrow"]})
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def test_a_script_that_cannot_answer_batches(replica: Any) -> None:
    """It answers one row whatever it gets: everybody is answered all the same, and it is not tried for ever."""
    script = "import time\ndef run(x):\n    time.sleep(0.2 if x[0, 0] == -1 else 0.01)\n    return [float(x[0, 0])]"
    start(replica, script, NUMBERS)
    for _ in range(12):
        replies = together(replica, [{"x": [[n, 0]]} for n in range(4)], {"x": [[-1, 0]]})
        assert [reply.json for reply in replies] == [[n] for n in range(4)]
        if "one request at a time from here on" in replica.log_text():
            break
    else:
        raise AssertionError(replica.log_text())
    assert replica.admin("GET", "/status").json["capacity"] == 1, "there is room for one a slot again"
    replies = together(replica, [{"x": [[n, 0]]} for n in range(4)], {"x": [[-1, 0]]})
    assert [reply.json for reply in replies] == [[n] for n in range(4)]
    assert replica.stop() == 0


def test_a_batch_may_wait_for_company(replica: Any) -> None:
    start(replica, "def run(x): return [len(x)] * len(x)", NUMBERS, size=2, delay_ms=5000)
    first = replica.aside({"x": [[1, 1]]})
    assert replica.score({"x": [[2, 2]]}).json == [2], "together as soon as the batch is full"
    for thread in replica.threads:
        thread.join()
    assert first[0].json == [2]


def test_deadlines_and_the_queue(replica: Any) -> None:
    script = """
import time
ran = []
def run(x):
    ran.extend(x[:, 0])
    time.sleep(5.0 if x[0, 0] == -2 else 1.0)
    return [len(ran)] * len(x)
"""
    start(replica, script, NUMBERS, size=2, max_queued_requests=0)
    bodies = [{"x": [[n, 0]]} for n in range(8)]
    replies = together(replica, bodies, {"x": [[-1, 0]]})
    statuses = [reply.status for reply in replies]
    assert statuses.count(200) == 3, "the batch under way has room for one more, and the next gathers two"
    assert statuses.count(429) == 5
    late = together(replica, [{"x": [[9, 0]]}], {"x": [[-2, 0]]}, {"x-request-timeout-ms": "200"})
    assert (late[0].status, late[0].error["code"]) == (429, "deadline")
    assert replica.score({"x": [[0, 0]]}).json == [6], "what was refused never started"


def test_a_batch_that_hangs_is_one_slot(replica: Any, until: Any) -> None:
    script = "import time\ndef run(x):\n    time.sleep(x[:, 0].max())\n    return [0] * len(x)"
    start(replica, script, NUMBERS, size=4, request_timeout_ms=1500)
    replies = together(replica, [{"x": [[2.5, 0]]}, {"x": [[2.5, 0]]}], {"x": [[1, 0]]})
    assert {reply.status for reply in replies} == {504}
    assert replica.admin("GET", "/status").json["stuck"] == 1
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)
    assert replica.score({"x": [[0, 0]]}).status == 200


@pytest.mark.parametrize(
    ("script", "schema", "why"),
    [
        ("async def run(x): return x", NUMBERS, "run() is async"),
        (
            "def run(x): return x",
            {"input": {"x": {"type": "standard", "swagger": {"type": "array", "minItems": 2}}}},
            "x has a rule for the whole array (minItems)",
        ),
        ("def run(x, request): return x", NUMBERS, "run() is told about one request"),
        ("def run(x): return x", None, "there is no schema"),
        (
            "def run(x): return x",
            {"input": {"x": {"type": "numpy", "dtype": "float64", "shape": [3, 2]}}},
            "the first axis of x is not free",
        ),
        (
            "def run(x): return x",
            {"input": {"x": {"type": "standard", "swagger": {"type": "number"}}}},
            "x is no array",
        ),
    ],
)
def test_what_cannot_be_batched_does_not_become_ready(replica: Any, script: str, schema: Any, why: str) -> None:
    replica.write_image(script, schema, serving={"max_batch_size": 8})
    replica.launch()
    assert replica.wait() == 3
    assert why in replica.failure()["reason"]


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ([1, 2, 3], [[1], [2, 3]]),
        ((1, 2, 3), [(1,), (2, 3)]),
        ({"a": [1, 2, 3], "model": "v1"}, [{"a": [1], "model": "v1"}, {"a": [2, 3], "model": "v1"}]),
        ([1, 2], None),
        ("abc", None),
        (7, None),
        (None, None),
        ({"model": "abc"}, None),
        ({"a": [1, 2, 3], "b": [1]}, None),
        ({1, 2, 3}, None),
    ],
)
def test_split(value: Any, parts: Any) -> None:
    assert split(value, [1, 2], plain=True) == parts


STREAM = """
import time
def run(x):
    time.sleep(0.3 if x[0, 0] == -1 else 0)
    def items():
        for row in x:
            yield {"row": float(row[0])}
    return items()
"""


def test_streams_are_not_batched_but_answered(replica: Any) -> None:
    start(replica, STREAM, NUMBERS)
    replies = together(replica, [{"x": [[n, 0], [n, 1]]} for n in range(3)], {"x": [[-1, 0]]})
    for number, reply in enumerate(replies):
        assert [json.loads(line) for line in reply.body.splitlines()] == [{"row": number}] * 2
    assert replica.score({"x": [[7, 0]]}).body == b'{"row":7.0}\n'


def test_what_does_not_fit_goes_on_waiting(replica: Any, until: Any) -> None:
    """It is not claimed: its caller may leave, and it is no second slot."""
    script = """
import time
ran = []
def run(x):
    ran.append(len(x))
    time.sleep(x[0, 1])
    return [str(ran)] * len(x)
"""
    start(replica, script, NUMBERS, size=3, request_timeout_ms=30_000)
    with connected(replica) as leaver:
        together(replica, [], {"x": [[0, 1.5]]})
        other = replica.aside({"x": [[1, 1.5], [1, 0]]})
        until(lambda: replica.admin("GET", "/status").json["in_flight"] == 2)
        body = json.dumps({"x": [[2, 0], [2, 0]]}).encode()
        leaver.sendall(post(body))
        until(lambda: replica.admin("GET", "/status").json["in_flight"] == 3)
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 0)
    assert other[0].status == 200
    ran = json.loads(replica.score({"x": [[3, 0]]}).json[0])
    assert ran == [1, 2, 1], "what was left behind by its caller never ran"


def test_a_leftover_is_no_stuck_slot(replica: Any, until: Any) -> None:
    script = "import time\ndef run(x):\n    time.sleep(x[:, 0].max())\n    return [0] * len(x)"
    replica.write_image(script, NUMBERS, serving={"max_batch_size": 2})
    replica.write_settings(request_timeout_ms=1000, max_queue_wait_ms=20_000, max_queued_requests=20)
    replica.start(slots=2)
    for _ in range(5):
        replica.aside({"x": [[6, 0]]})
    until(lambda: replica.admin("GET", "/status").json["stuck"] >= 1)
    assert replica.admin("GET", "/status").json["stuck"] <= 2


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("def run(x): return [0.25, 0.75, 1]", "run() does not answer 2 rows with 2 items"),
        ("def run(x): return [0.25, 0.75]", "the sample in a batch is not answered as the sample alone"),
        (
            "def run(x):\n    import json\n    return json.dumps(x.tolist())",
            "run() does not answer 2 rows with 2 items",
        ),
        ("def run(x):\n    yield 1", "run() answers with a stream"),
    ],
)
def test_the_sample_shows_what_a_script_can(replica: Any, script: str, why: str) -> None:
    replica.write_image(script, NUMBERS, [{"input": {"x": [[1, 2]]}}], serving={"max_batch_size": 8})
    replica.launch()
    assert replica.wait() == 3
    assert why in replica.failure()["reason"]


def test_a_script_that_answers_by_chance_may_be_batched(replica: Any) -> None:
    script = "import random\ndef run(x): return [random.random() for _ in x]"
    replica.write_image(script, NUMBERS, [{"input": {"x": [[1, 2]]}}], serving={"max_batch_size": 8})
    replica.start()
    assert replica.score({"x": [[1, 2]]}).status == 200
