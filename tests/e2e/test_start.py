"""Starting, stopping, and what may be in the way of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from e2e.calls import call
from e2e.running import Argosy, RecipeFolder


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def soon(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def background(argosy: Argosy, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "argosy.cli", *words],
        env=argosy.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pids(argosy: Argosy) -> set[int]:
    return {process.pid for process in argosy.processes()}


def test_up_again_status_doctor_and_down(fresh: Argosy) -> None:
    stopped = fresh("status")
    assert stopped.code == 0
    assert "stopped" in stopped.out and "argosy up" in stopped.out
    assert "argosy up" in fresh.fails("model", "list", code=2)
    assert fresh.ok("down").code == 0

    first = fresh.json("up", "--port", "0", "--gateway-port", "0")
    assert (first["state"], first["already_running"]) == ("running", False)
    again = fresh.json("up")
    assert again == first | {"already_running": True}
    assert "runs already" in fresh.ok("up").err
    assert first["url"] in fresh.ok("up").out
    assert "--port 1234" in fresh.ok("up", "--port", "1234").err, "what cannot take effect now is said"

    status = fresh.json("status")
    assert (status["state"], status["pid"], status["url"]) == ("running", first["pid"], first["url"])
    assert status["gateway"]["pid"] in pids(fresh)
    assert str(status["gateway"]["port"]) in first["gateway_url"]
    checks = {c["name"]: c["state"] for c in fresh.json("doctor")["checks"]}
    assert {"disk", "database", "gateway", "pythons"} <= set(checks)
    assert "fail" not in checks.values()
    unit = fresh.ok("doctor", "--unit").out
    assert "[Service]" in unit and "argosy" in unit and str(fresh.home) in unit

    assert call(f"{first['url']}/healthz").json == {"status": "ok"}
    for private in ("token", "master.key"):
        assert (fresh.home / private).stat().st_mode & 0o777 == 0o600
    assert fresh.home.stat().st_mode & 0o077 == 0
    fresh.ok("down")
    assert pids(fresh) == set()
    assert fresh.json("status")["state"] == "stopped"
    back = fresh.json("up")
    assert (back["url"], back["gateway_url"]) == (first["url"], first["gateway_url"]), "ports stay with the home"


def test_two_ups_at_once(fresh: Argosy) -> None:
    racers = [background(fresh, "up", "--port", "0", "--gateway-port", "0", "-o", "json") for _ in range(3)]
    ended = [(one.communicate(timeout=180), one.returncode) for one in racers]
    for (out, err), code in ended:
        assert code == 0, err
        assert "Traceback" not in out + err
    urls = {json.loads(out)["url"] for (out, _), _ in ended}
    assert len(urls) == 1
    assert sum(not json.loads(out)["already_running"] for (out, _), _ in ended) == 1
    # The others have told their callers where the winner is; they end a moment later.
    deadline = time.monotonic() + 60
    while sum("argosy.server" in words for words in fresh.commands()) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "Traceback" not in (fresh.home / "logs" / "control-plane.log").read_text()


@pytest.mark.parametrize("option", ["--port", "--gateway-port"])
def test_a_port_that_is_taken(fresh: Argosy, taken_port: int, option: str) -> None:
    other = "--gateway-port" if option == "--port" else "--port"
    said = fresh.fails("up", option, str(taken_port), other, "0", code=2)
    assert f"Port {taken_port}" in said and option in said
    assert pids(fresh) == set(), "nothing half-started is left"
    fresh.up()


def test_a_host_that_is_not_this_machine(fresh: Argosy) -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        said = fresh.fails("up", "--host", host, "--port", "0", "--gateway-port", "0", "--tls", "auto", code=1)
        assert host in said
        assert "in use" not in said
    assert pids(fresh) == set()


def test_the_server_in_the_foreground(fresh: Argosy, recipe: RecipeFolder) -> None:
    """SIGTERM ends the server alone: services keep answering, and `up` adopts them."""
    server = background(fresh, "server", "--port", "0", "--gateway-port", "0")
    try:
        soon(lambda: fresh("model", "list").code == 0, "the server answers")
        assert fresh.address["pid"] == server.pid, "it is the process itself, as service managers want it"
        assert "runs" in fresh.fails("server"), "one control plane for a home"
        fresh.ok("service", "create", "kept", "-m", recipe.model(2), *recipe.options())
        shown, key = fresh.json("service", "show", "kept"), fresh.key("kept")
    finally:
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)
    assert server.returncode == 0, err
    assert "Traceback" not in out + err
    assert call(shown["scoring_url"], {"numbers": [4]}, token=key).json == [8.0]
    assert "argosy up" in fresh.fails("service", "show", "kept", code=2)
    fresh.ok("up")
    fresh.ok("service", "wait", "kept")
    after = fresh.json("service", "show", "kept")
    assert [r["pid"] for r in after["replicas"]] == [r["pid"] for r in shown["replicas"]], "adopted"
    assert after["scoring_url"] == shown["scoring_url"]


def test_after_kill_9_of_everything(fresh: Argosy, recipe: RecipeFolder) -> None:
    """Stale sockets, locks, run folders and addresses of processes that are no more."""
    fresh.up()
    fresh.ok("service", "create", "reborn", "-m", recipe.model(2), *recipe.options(), "-z", "2")
    shown, key = fresh.json("service", "show", "reborn"), fresh.key("reborn")
    address = fresh.address
    for process in fresh.processes():
        process.kill()
    soon(lambda: pids(fresh) == set(), "all are dead")
    assert fresh.json("status")["state"] == "stopped"
    assert "argosy up" in fresh.fails("service", "list", code=2)
    assert any((fresh.home / "run" / "r").iterdir()), "stale run folders"
    # The pid of the dead control plane now belongs to somebody else.
    (fresh.home / "address.json").write_text(json.dumps(address | {"pid": os.getpid()}))
    fresh.ok("up")
    fresh.ok("service", "wait", "reborn")
    after = fresh.json("service", "show", "reborn")
    assert (after["scoring_url"], fresh.key("reborn")) == (shown["scoring_url"], key)
    assert call(after["scoring_url"], {"numbers": [1]}, token=key).json == [2.0]
    soon(lambda: len(list((fresh.home / "run" / "r").iterdir())) == 2, "stale run folders are removed")
    fresh.ok("down")
    assert pids(fresh) == set()


class Stranger(BaseHTTPRequestHandler):
    """Some other web server."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""


def test_somebody_elses_server_at_our_address(fresh: Argosy) -> None:
    """The home's port was taken over while this one was down."""
    fresh.up()
    address = fresh.address
    fresh.ok("down")
    with HTTPServer(("127.0.0.1", address["port"]), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        assert fresh.json("status")["state"] == "stopped"
        said = fresh.fails("up", code=2)
        assert f"Port {address['port']}" in said and "--port" in said
        stranger.shutdown()
    fresh.ok("up")
    assert fresh.address["url"] == address["url"]


def test_logs_are_capped(fresh: Argosy, recipe: RecipeFolder) -> None:
    (fresh.home / "config.toml").write_text("log_limit_bytes = 20000\n")
    script = "def run(numbers):\n    for n in range(50):\n        print('x' * 200)\n    return numbers\n"
    fresh.up()
    fresh.ok("service", "create", "chatty", "-m", recipe.model(2), *recipe.options(script=script))
    url, key = fresh.json("service", "show", "chatty")["scoring_url"], fresh.key("chatty")
    for _ in range(30):
        assert call(url, {"numbers": [1]}, token=key).status == 200
    time.sleep(6)  # the gateway's and the control plane's own logs are looked at every few seconds
    sizes = {path.name: path.stat().st_size for path in (fresh.home / "logs").rglob("*") if path.is_file()}
    # A file may go over its limit by what one line, or one request, brings.
    assert max(sizes.values()) < 20_000 + 20_000, sizes
    assert len([name for name in sizes if name.startswith("chatty")]) <= 2
    assert fresh.ok("service", "logs", "chatty", "-n", "5").out.count("xxx") >= 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 7700\n", "there is no such setting"),
        ("port = '7700'\n", "must be a int"),
        ("port = \n", "not valid TOML"),
        ("[table]\na = 1\n", "there is no such setting"),
        ("port = 99999\n", "65535"),
        ("log_limit_bytes = -1\n", "log_limit_bytes"),
        ("operation_workers = 0\n", "operation_workers"),
    ],
)
def test_config_files_that_cannot_be_read(fresh: Argosy, text: str, message: str) -> None:
    (fresh.home / "config.toml").write_text(text)
    said = fresh.fails("up", "--gateway-port", "0")
    assert message in said
    assert pids(fresh) == set()


def test_settings_from_the_environment(fresh: Argosy) -> None:
    wrong = Argosy(fresh.home, {"ARGOSY_PORT": "seventy"})
    assert "ARGOSY_PORT" in wrong.fails("up")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    right = Argosy(fresh.home, {"ARGOSY_PORT": str(free), "ARGOSY_GATEWAY_PORT": "0"})
    right.ok("up")
    assert right.address["url"].endswith(f":{free}")


@pytest.mark.parametrize("words", ["--help", "version", "service --help", "service create --help", "--version"])
def test_help_and_version_load_nothing_heavy(fresh: Argosy, words: str) -> None:
    program = (
        "import sys\n"
        "from argosy.cli.app import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "print('LOADED', *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()], env=fresh.environ, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stderr.partition("LOADED")[2].split()}
    heavy = "fastapi pydantic sqlalchemy alembic httpx uvicorn rich numpy cryptography psutil yaml asyncio ssl http"
    assert loaded & set(heavy.split()) == set()
    assert done.stdout.strip()


def test_every_command_has_help_with_examples(fresh: Argosy) -> None:
    top = fresh.ok("--help").out
    for noun in ("up", "down", "server", "status", "doctor", "version", "completion", "model", "service"):
        assert f"  {noun}" in top
        text = fresh.ok(noun, "--help").out
        assert "usage: argosy" in text
    text = fresh.ok("service", "create", "--help").out
    assert "examples:" in text and "--replicas" in text


def test_interrupting_a_command_stops_nothing_else(fresh: Argosy, recipe: RecipeFolder) -> None:
    fresh.up()
    script = "import time\ndef init(): time.sleep(4)\ndef run(numbers): return numbers\n"
    words = ("service", "create", "slow", "-m", str(recipe.model(2)), *recipe.options(script=script))
    creating = background(fresh, *words)
    soon(lambda: fresh("service", "show", "slow").code == 0, "the service is there")
    creating.send_signal(signal.SIGINT)
    _, err = creating.communicate(timeout=60)
    assert creating.returncode == 130
    assert "argosy service show slow" in err and "Traceback" not in err
    fresh.ok("service", "wait", "slow")


def test_a_gateway_that_is_no_haproxy(fresh: Argosy, tmp_path: Path) -> None:
    for program in ("/does/not/exist", "/bin/true"):
        said = Argosy(fresh.home, {"ARGOSY_HAPROXY": program}).fails("up", "--port", "0", "--gateway-port", "0", code=2)
        assert program in said
    assert not [p for p in fresh.processes() if psutil.pid_exists(p.pid)]
