"""Starting and stopping seen from the command line: options, differences, failures, leftovers, units, checks."""

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from argosy.cli import doctor, plane
from argosy.cli.app import build
from argosy.cli.control import differences, server_options
from argosy.records import Status
from argosy.settings import Home, Settings
from cli.conftest import Argosy
from sdk.fake_control_plane import TOKEN, FakeControlPlane

STATUS = Status("1", 5, "http://127.0.0.1:7700", "/h", "", {"url": "http://127.0.0.1:7780"})


def up(*words: str) -> argparse.Namespace:
    return build(["up"]).parse(["up", *words])


def test_options_of_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert server_options(up()) == []
    assert server_options(up("--port", "0", "--gateway-port", "7", "--host", "::1", "--tls", "auto")) == [
        "--host", "::1", "--port", "0", "--gateway-port", "7", "--tls", "auto",
    ]  # fmt: skip
    words = server_options(up("--tls-cert", "c.pem", "--tls-key", "../k.pem"))
    assert words == ["--tls-cert", str(tmp_path / "c.pem"), "--tls-key", str(tmp_path.parent / "k.pem")]


@pytest.mark.parametrize(
    ("words", "different"),
    [
        ((), []),
        (("--port", "7700", "--gateway-port", "7780", "--host", "127.0.0.1"), []),
        (("--port", "0"), []),
        (("--port", "1", "--gateway-port", "2"), ["--port 1", "--gateway-port 2"]),
        (("--tls", "auto"), ["--tls auto"]),
        (("--host", "10.0.0.1"), ["--host 10.0.0.1"]),
    ],
)
def test_options_that_differ_from_what_runs(words: tuple[str, ...], different: list[str]) -> None:
    assert differences(up(*words), STATUS) == different


@pytest.mark.parametrize(
    ("lines", "code", "message", "exit_code"),
    [
        (["log", "error: port in use", "choose another"], 2, "port in use\nchoose another", 2),
        (["error: no such host"], 1, "no such host", 1),
        (["Traceback", "boom"], 1, "stopped while it started (exit code 1). Its whole output is in /log.", 2),
        ([], -9, "exit code -9", 2),
    ],
)
def test_failures_to_start_are_relayed(lines: list[str], code: int, message: str, exit_code: int) -> None:
    problem = plane.start_failure(lines, code, Path("/log"))
    assert message in problem.message
    assert problem.exit_code == exit_code


@pytest.fixture
def running(fake: FakeControlPlane, home: Path) -> FakeControlPlane:
    """The fake as the control plane of `home`."""
    home.mkdir()
    (home / "address.json").write_text(json.dumps({"url": fake.url, "gateway_url": "http://g:1", "ca_file": None}))
    (home / "token").write_text(TOKEN)
    status = {"version": "1", "pid": 5, "url": fake.url, "home": str(home), "started_at": "", "gateway": {}}
    fake.answer("GET", "/v1/status", status)
    return fake


def test_up_says_that_it_runs(argosy: Argosy, running: FakeControlPlane) -> None:
    ran = argosy("up", "--port", "9")
    assert ran.code == 0
    assert ran.err.splitlines()[0] == "argosy runs already"
    assert "--port 9 will take effect" in ran.err
    for part in (f"Control plane  {running.url}", "http://g:1", f"{running.url}/docs"):
        assert part in ran.out
    assert json.loads(argosy("up", "-o", "json").out)["already_running"] is True


def test_the_control_plane_of_another_home_is_not_ours(running: FakeControlPlane, home: Path) -> None:
    assert plane.running(Home(home)) is not None
    running.answer(
        "GET", "/v1/status", {"version": "1", "pid": 5, "url": "u", "home": "/other", "started_at": "", "gateway": {}}
    )
    assert plane.running(Home(home)) is None
    (home / "token").write_text("wrong")
    assert plane.running(Home(home)) is None


def test_down_waits_for_the_process_to_end(argosy: Argosy, running: FakeControlPlane, home: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
    status = {"version": "1", "pid": child.pid, "url": running.url, "home": str(home), "started_at": "", "gateway": {}}
    running.answer("GET", "/v1/status", status)
    running.answer("POST", "/v1/shutdown", {}, status=202)
    ran = argosy("down")
    # Not reaped yet, so it is a zombie: that counts as ended.
    assert (ran.code, ran.out) == (0, "argosy is stopped\n")
    assert child.wait() == 0
    assert running.asked("POST", "/v1/shutdown")[0].json == {"services": True}


def test_down_without_anything(argosy: Argosy, home: Path) -> None:
    ran = argosy("down")
    assert (ran.code, ran.out) == (0, f"nothing runs here (home {home})\n")
    assert json.loads(argosy("down", "-o", "json").out) == {"state": "stopped", "was_running": False}


def test_a_process_number_that_was_given_again_is_another_process() -> None:
    assert plane.alive(os.getpid(), plane.birth(os.getpid()))
    assert not plane.alive(os.getpid(), 12.0)
    assert plane.wait_until_gone(os.getpid(), 12.0, 0.0)
    assert not plane.wait_until_gone(os.getpid(), plane.birth(os.getpid()), 0.0)


def test_a_home_that_cannot_be_written(argosy: Argosy) -> None:
    ran = argosy("up", ARGOSY_HOME="/proc/none")
    assert ran.code == 2
    assert ran.err.startswith("error: The home /proc/none cannot be used")


def test_doctor_without_a_control_plane(argosy: Argosy, home: Path) -> None:
    ran = argosy("doctor", "-o", "json", ARGOSY_PORT="0", ARGOSY_GATEWAY_PORT="0")
    checks = {check["name"]: check["state"] for check in json.loads(ran.out)["checks"]}
    assert set(checks) == {"home", "disk", "python", "uv", "haproxy", "control plane port", "gateway port"}
    assert ran.code == (2 if "fail" in checks.values() else 0)
    (home / "config.toml").write_text("nonsense = 1")
    broken = argosy("doctor")
    assert (broken.code, "nonsense" in broken.out) == (2, True)


def test_doctor_asks_a_control_plane_that_runs(argosy: Argosy, running: FakeControlPlane) -> None:
    running.answer(
        "GET", "/v1/doctor", {"checks": [{"name": "gateway", "state": "fail", "message": "HAProxy is gone"}]}
    )
    ran = argosy("doctor")
    assert (ran.code, "HAProxy is gone" in ran.out) == (2, True)


def test_checks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert doctor.check_port("127.0.0.1", port, "p").state == "fail"
    assert doctor.check_port("127.0.0.1", 0, "p").state == "ok"
    assert doctor.check_haproxy(Settings(haproxy="/no/such"), "/usr/bin").state == "fail"
    assert doctor.check_haproxy(Settings(haproxy=sys.executable), "/usr/bin").state == "ok"
    assert doctor.check_home(Home(Path("/proc/none"))).state == "fail"


def test_the_unit_names_absolute_paths_and_the_home() -> None:
    text = doctor.unit(Home(Path('/srv/my "home"/100%')))
    assert 'Environment="ARGOSY_HOME=/srv/my \\"home\\"/100%%"' in text
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(line.removeprefix("ExecStart="))
    assert Path(words[0]).is_absolute()
    assert words[-2:] == ["-m", "argosy.server"]
    assert "KillMode=process" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completion_scripts_know_the_commands(argosy: Argosy, shell: str) -> None:
    ran = argosy("completion", shell)
    assert ran.code == 0
    for word in ("register", "rollback", "gateway-port"):
        assert word in ran.out
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=ran.out, text=True, check=False).returncode == 0
