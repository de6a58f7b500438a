"""The control plane as a process of this machine: is it there, start it, wait until it is gone."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy.errors import ConnectionLost, Error, NotRunning, StorageFailed, SystemFailure, TimedOut
from argosy.records import Status
from argosy.sdk.address import Address, read_address, read_token
from argosy.sdk.client import Client
from argosy.settings import Home

_POLL_S = 0.1
_START_S = 120.0
_LAST_LINES = 15


@dataclass(frozen=True)
class Launch:
    """A control plane that is starting: `log_start` is where its output begins in `log`."""

    process: "subprocess.Popen[bytes]"
    log: Path
    log_start: int


def running(home: Home, environ: Mapping[str, str] = os.environ) -> Status | None:
    """The status of the control plane of this home; None when none answers, or another program does."""
    written = read_address(home)
    try:
        status = _ask(written, home, environ)
    except Error:
        return None
    return status if Path(status.home) == home.path or Path(status.home).resolve() == home.path.resolve() else None


def _ask(written: Mapping[str, Any], home: Home, environ: Mapping[str, str]) -> Status:
    if not written.get("url"):
        raise not_running(home)
    ca_file = written.get("ca_file") or environ.get("ARGOSY_CA_FILE")
    with Client.at(Address(str(written["url"]), read_token(home), ca_file)) as client:
        return client.status()


def command(options: Sequence[str]) -> list[str]:
    """`-P` keeps the working directory out of the import path: a user's own `secrets.py` must not be imported."""
    return [sys.executable, "-P", "-m", "argosy.server", *options]


def launch(home: Home, options: Sequence[str], environ: Mapping[str, str]) -> Launch:
    """Start it detached from this terminal, its output appended to the home's log."""
    log = home.logs / "control-plane.log"
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise StorageFailed(
            f"The home {home.path} cannot be used: {problem.strerror}. Make it writable, free some space, or set "
            "ARGOSY_HOME to another folder."
        ) from problem
    try:
        process = subprocess.Popen(
            command(options),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env=dict(environ),
            cwd=home.path,
        )
        return Launch(process, log, os.lseek(out, 0, os.SEEK_END))
    finally:
        os.close(out)


def wait_until_up(home: Home, launched: Launch, environ: Mapping[str, str] = os.environ) -> Status:
    """Its status as soon as it answers. Raises what it printed when it gave up.

    Another control plane of the same home may have been quicker; then its status is the answer.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        code = launched.process.poll()
        if (status := running(home, environ)) is not None:
            return status
        if (written := read_address(home)).get("pid") == launched.process.pid:
            _check_trust(written, home, environ)
        if code is not None and not _locked(home):
            raise _failure(launched, code)
        time.sleep(_POLL_S)
    raise TimedOut(f"The start of the control plane (its output is in {launched.log})", _START_S)


def _check_trust(written: Mapping[str, Any], home: Home, environ: Mapping[str, str]) -> None:
    """It answers by now. When its certificate is not trusted here, no waiting helps: raises what is wrong with it."""
    try:
        _ask(written, home, environ)
    except (NotRunning, ConnectionLost, TimedOut):
        return


def _locked(home: Home) -> bool:
    """Whether a control plane, perhaps one that is just starting, holds this home."""
    try:
        with home.lock.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _failure(launched: Launch, code: int) -> Error:
    with launched.log.open("rb") as log:
        log.seek(launched.log_start)
        lines = log.read().decode("utf-8", "replace").splitlines()
    return start_failure(lines, code, launched.log)


def start_failure(lines: Sequence[str], code: int, log: Path) -> Error:
    """The error from what a control plane printed: from its `error:` line on, else its last lines."""
    first = next((number for number, line in enumerate(lines) if line.startswith("error: ")), None)
    if first is not None:
        problem: Error = SystemFailure("\n".join([lines[first].removeprefix("error: "), *lines[first + 1 :]]).strip())
        problem.exit_code = 1 if code == 1 else 2
        return problem
    return SystemFailure(
        f"The control plane stopped while it started (exit code {code}). Its whole output is in {log}.",
        {"log": list(lines[-_LAST_LINES:])},
    )


def wait_until_gone(pid: int, started: float | None, timeout_s: float) -> bool:
    """Whether the process (the one that was started then, not a later one of the same number) has ended in time."""
    deadline = time.monotonic() + timeout_s
    while alive(pid, started):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def birth(pid: int) -> float | None:
    """When the process was started; None when there is none."""
    import psutil  # imported here: only `down` pays for it

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def alive(pid: int, started: float | None) -> bool:
    """A zombie, whose parent has not asked for its exit code yet, has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def stop_leftovers(environ: Mapping[str, str]) -> tuple[int, str]:
    """Stop the replicas and the gateway of a control plane that has died; its exit code and what it printed."""
    done = subprocess.run(
        command(["--stop-all"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def not_running(home: Home) -> NotRunning:
    return NotRunning(str(read_address(home).get("url") or home.path))
