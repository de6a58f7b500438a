"""Start, failure, drain, restart and faults of a real replica process."""

import fcntl
import json
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLAIN = {"input": {"x": {"type": "standard", "swagger": {"type": "number"}, "example": 1}}}
SLEEPY = """
import time
def init(): pass
def run(x):
    time.sleep(x)
    return x
"""


def failed(replica: Any, script: str, schema: Any = PLAIN, samples: Any = None, **spec: Any) -> tuple[str, str]:
    replica.write_image(script, schema, samples)
    replica.launch(**spec)
    assert replica.wait() == 3
    found = replica.failure()
    return found["code"], found["reason"]


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("def run(x:\n  return 1", "script_error", "SyntaxError"),
        ("import nothing_like_it\ndef run(x): pass", "script_error", "'nothing_like_it' (score.py, line 1"),
        ("def init(): pass", "script_error", "no function run()"),
        ("def run(y): pass", "script_error", "does not fit the schema's inputs (x)"),
        ("1/0\ndef run(x): pass", "script_error", "ZeroDivisionError: division by zero (score.py, line 1, in <module>"),
        ("def init():\n  raise OSError('no model')\ndef run(x): pass", "init_failed",
         "OSError: no model (score.py, line 2, in init: raise OSError('no model'))"),
        ("def init():\n  import sys; sys.exit(4)\ndef run(x): pass", "init_failed", "sys.exit(4)"),
        ("import pickle\nbad = b'cno_such_library\\nThing\\n.'\ndef init(): pickle.loads(bad)\ndef run(x): pass",
         "init_failed", "saved by other library versions than this environment has"),
    ],
)  # fmt: skip
def test_scripts_that_cannot_serve(replica: Any, script: str, code: str, reason: str) -> None:
    found = failed(replica, script)
    assert found[0] == code
    assert reason in found[1]
    assert any("Not ready" in line["message"] for line in replica.log())


def test_an_init_that_hangs(replica: Any) -> None:
    script = "import time\ndef init(): time.sleep(600)\ndef run(x): pass"
    assert failed(replica, script, init_timeout_s=0.5)[0] == "init_timeout"


def test_samples_that_fail(make_replica: Callable[[], Any]) -> None:
    script = "def run(x): return {'y': 1 / x}"
    for sample, told in (
        ({"input": {"x": 0}}, "Sample 1: ZeroDivisionError: division by zero (score.py, line 1, in run"),
        ({"input": {"x": "q"}}, "/x: expected a number, received the string 'q'"),
        ({"input": {"x": 2}, "output": {"y": 0.6}}, "/y: expected 0.6, received 0.5"),
    ):
        code, reason = failed(make_replica(), script, samples=[{"input": {"x": 1}, "output": {"y": 1}}, sample][1:])
        assert (code, told in reason) == ("sample_failed", True), reason


def test_sample_tolerance_and_no_samples(make_replica: Callable[[], Any]) -> None:
    close = make_replica()
    close.write_image("def run(x): return x / 3", PLAIN, [{"input": {"x": 1}, "output": 0.33333333}])
    close.start()
    bare = make_replica()
    bare.write_image("def run(x): return x", PLAIN)
    bare.start()
    assert any(line["level"] == "warning" and "no samples" in line["message"] for line in bare.log())
    assert not any("no samples" in line["message"] for line in close.log())


def test_a_bad_image_spec_or_settings(make_replica: Callable[[], Any]) -> None:
    missing = make_replica()
    missing.launch()
    assert missing.wait() == 3
    assert missing.failure()["code"] == "invalid_spec"
    settings = make_replica()
    settings.write_image("def run(x): return x", PLAIN)
    settings.write_settings(keys=["short"])
    settings.launch()
    assert settings.wait() == 3
    assert "SHA-256" in settings.failure()["reason"]
    spec = make_replica()
    spec.write_image("def run(x): return x", PLAIN)
    spec.launch(slots=0)
    assert spec.wait() == 3
    assert b"slots must be a number of at least 1" in spec.process.stderr.read()


def test_loading_answers_503(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image("import time\ndef init(): time.sleep(1)\ndef run(x): return x", PLAIN)
    replica.launch()
    until(replica.sock.exists)
    for url in ("/readyz", "/"):
        assert replica.get(url).status == 503
    reply = replica.score({"x": 1})
    assert (reply.status, reply.error["code"]) == (503, "loading")
    assert int(reply.headers["retry-after"]) >= 1
    assert replica.get("/livez").status == 200
    assert replica.admin("GET", "/status").json["state"] == "loading"
    until(lambda: replica.get("/readyz").status == 200)
    assert replica.score({"x": 1}).json == 1


def test_the_lock_is_held_for_life(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image(SLEEPY, PLAIN)
    replica.start()
    with (replica.folder / "lock").open() as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        first = replica.process
        inode = replica.sock.stat().st_ino
        replica.launch()
        assert replica.wait() == 2
        assert b"held by another replica" in replica.process.stderr.read()
        assert replica.sock.stat().st_ino == inode
        assert replica.score({"x": 0}).status == 200
        first.kill()
        first.communicate()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    replica.start()
    assert replica.score({"x": 0}).status == 200


def test_the_lock_is_not_inherited(replica: Any) -> None:
    replica.write_image(
        "import subprocess\ndef init():\n  global p\n  p = subprocess.Popen(['sleep', '30'], close_fds=False)\n"
        "def run(x): return p.pid", PLAIN,
    )  # fmt: skip
    replica.start()
    child = replica.score({"x": 0}).json
    try:
        replica.process.kill()
        replica.process.wait()
        with (replica.folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_drain_loses_nothing(replica: Any) -> None:
    """Callers on their own connections, until the socket is gone: everything that was accepted is answered."""
    replica.write_image(SLEEPY, PLAIN)
    replica.write_settings(max_queue_wait_ms=20_000, max_queued_requests=100)
    replica.start(slots=2, drain_grace_s=0.3)
    statuses: list[int] = []
    errors: list[Exception] = []
    gone = threading.Event()

    def call() -> None:
        while not gone.is_set():
            try:
                reply = replica.score({"x": 0.005})
            except (FileNotFoundError, ConnectionRefusedError):
                gone.set()  # never connected: a gateway tries elsewhere
            except Exception as problem:
                errors.append(problem)
                gone.set()
            else:
                statuses.append(reply.status)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    replica.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert replica.get("/readyz").status == 503
    assert replica.score({"x": 0}).headers["connection"] == "close"
    assert replica.wait() == 0
    for thread in threads:
        thread.join(10)
    assert errors == []
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) > 20


def test_work_in_flight_is_finished(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image(SLEEPY, PLAIN)
    replica.write_settings(max_queue_wait_ms=10_000)
    replica.start()
    replies = [replica.aside({"x": 0.6}) for _ in range(2)]
    until(lambda: replica.admin("GET", "/status").json["queued"] == 1)
    assert replica.admin("POST", "/drain", {"grace_s": 0}).json == {"state": "draining"}
    reply = until(lambda: (r := replica.score({"x": 0})).status == 503 and r)
    assert (reply.error["code"], reply.headers["connection"]) == ("draining", "close")
    assert replica.wait() == 0
    until(lambda: all(replies))
    assert [one[0].status for one in replies] == [200, 200]
    assert not replica.sock.exists()


def test_a_second_signal_cuts_the_drain_short(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image(SLEEPY, PLAIN)
    replica.start()
    replica.aside({"x": 60})
    until(lambda: replica.admin("GET", "/status").json["in_flight"] == 1)
    replica.process.send_signal(signal.SIGTERM)
    until(lambda: replica.admin("GET", "/status").json["state"] == "draining")
    assert replica.process.poll() is None
    replica.process.send_signal(signal.SIGTERM)
    assert replica.wait() == 5


def test_a_stop_while_loading(replica: Any, until: Callable[..., Any]) -> None:
    replica.write_image("import time\ndef init(): time.sleep(600)\ndef run(x): pass", PLAIN)
    replica.launch()
    until(replica.sock.exists)
    assert replica.stop() == 0


def test_a_hung_run(replica: Any, until: Callable[..., Any]) -> None:
    """504 in time, an honestly busy slot, not ready when all hang, and in the end a new process is asked for."""
    replica.write_image(SLEEPY, PLAIN)
    replica.write_settings(request_timeout_ms=300)
    replica.start()
    reply = replica.score({"x": 60}, {"x-request-id": "hung"})
    assert (reply.status, reply.error["code"]) == (504, "timeout")
    assert "0.3 seconds" in reply.error["message"]
    assert replica.get("/readyz").status == 503
    assert replica.get("/livez").status == 200
    assert replica.admin("GET", "/status").json["stuck"] == 1
    assert replica.score({"x": 0}).status in (429, 504)
    assert replica.wait() == 4
    assert any("hang" in line["message"] for line in replica.log())
    assert any(line["request_id"] == "hung" for line in replica.log())


def test_two_slots_one_hung(replica: Any) -> None:
    replica.write_image(SLEEPY, PLAIN)
    replica.write_settings(request_timeout_ms=300)
    replica.start(slots=2)
    assert replica.score({"x": 2}).status == 504
    assert replica.get("/readyz").status == 200
    assert replica.score({"x": 0}).status == 200


def test_liveness_while_python_computes(replica: Any) -> None:
    replica.write_image(
        "import time\ndef run(x):\n  end = time.monotonic() + x\n  while time.monotonic() < end: pass", PLAIN
    )
    replica.start()
    busy = threading.Thread(target=replica.score, args=({"x": 2},))
    busy.start()
    started = time.monotonic()
    assert replica.get("/livez").status == 200
    assert replica.get("/metrics").status == 200
    assert busy.is_alive(), f"the probes waited for run(): {time.monotonic() - started:.1f} s"
    busy.join()


def test_scratch_and_environment(replica: Any) -> None:
    replica.write_image(
        "import os\ndef run(x): return [os.getcwd(), open('model.bin').read(), os.environ['AZUREML_MODEL_DIR'], "
        "os.environ['ARGOSY_MODEL_DIR'], sorted(os.listdir())]",
        PLAIN, models={"iris": {"model.bin": b"weights"}},
    )  # fmt: skip
    replica.start()
    root = replica.folder / "image" / "models"
    cwd, model, azure, ours, listing = replica.score({"x": 1}).json
    assert (Path(cwd), model) == (replica.folder / "scratch", "weights")
    assert (Path(azure), Path(ours)) == (root / "iris" / "1", root)
    assert listing == ["model.bin", "score.py"]
    assert stat.S_IMODE((replica.folder / "scratch").stat().st_mode) == 0o700


def test_a_shared_replica_opens_its_sockets_and_its_log_to_others(replica: Any) -> None:
    replica.write_image("def run(x): return x", PLAIN)
    replica.start(shared=True, log_limit_bytes=10_000)
    paths = (replica.sock, replica.admin_socket, replica.folder / "log")
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o666, 0o666, 0o644]


def test_tcp(replica: Any, until: Callable[..., Any]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    replica.write_image("def run(x): return x", PLAIN)
    replica.launch(listen={"host": "127.0.0.1", "port": port})
    until(lambda: any("Ready" in line["message"] for line in replica.log()))
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 OK")
    assert json.loads((replica.folder / "spec.json").read_text())["listen"]["port"] == port


def test_an_input_that_may_be_left_out_needs_a_default(replica: Any) -> None:
    replica.write_image("def run(x): pass", {"input": {"x": {"required": False}}})
    replica.launch()
    assert replica.wait() == 3
    assert "'x' may be left out, but run() in score.py has no default" in replica.failure()["reason"]


@pytest.mark.parametrize(
    ("script", "raised"),
    [
        ("import json\ndef init():\n  json.loads('{')\ndef run(x): pass", "JSONDecodeError: Expecting"),
        ("import helper\ndef run(x): pass", "ZeroDivisionError: division by zero"),
    ],
)
def test_tracebacks_of_a_start_begin_in_the_users_code(replica: Any, script: str, raised: str) -> None:
    replica.write_image(script)
    (replica.folder / "image" / "code" / "helper.py").write_text("def f(): 1 / 0\nf()\n")
    replica.launch()
    assert replica.wait() == 3
    (shown,) = [line["exception"] for line in replica.log() if "exception" in line]
    lines = shown.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "/image/code/score.py" in lines[1] and raised in lines[-1]
    assert "argosy_serving" not in shown


def test_without_a_frame_of_the_user_there_is_no_traceback(replica: Any) -> None:
    replica.write_image("def run(x:")
    replica.launch()
    assert replica.wait() == 3
    assert [line for line in replica.log() if "exception" in line] == []
    assert "SyntaxError" in replica.failure()["reason"]
