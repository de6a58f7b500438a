"""Starts, finds and stops the one HAProxy process group of a home. What it serves is the gateway's business.

HAProxy runs detached in master-worker mode, so it serves on when the control plane dies. It is found again by its
master socket in the home's private run folder, and proven by the home's id in the description that it tells.
"""

import errno
import random
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM, SIGUSR1

from argosy.errors import GatewayFailed, InvalidOption, PortInUse
from argosy.gateway.binary import Binary
from argosy.gateway.config import Description
from argosy.gateway.logs import tail_from
from argosy.gateway.master import Master
from argosy.gateway.process import ProcessHandle, ProcessMark, wait_gone

_START_S = 15.0
# Workers notice within about two seconds that their master was killed, and end.
_ORPHANS_END_S = 8.0
# For a port of our choice.
_PORTS = range(10_000, 32_000)


@dataclass(frozen=True)
class Running:
    """A HAProxy that was just seen alive. `retired` are workers that finish their requests after a reload."""

    master: int
    worker: int
    retired: tuple[int, ...]
    version: str
    uptime_s: int
    description: Description

    @property
    def all_workers(self) -> tuple[int, ...]:
        return (self.worker, *self.retired)


class Supervisor:
    """Of one home: `run` is its folder of sockets, `log` HAProxy's output, `home_id` proves ownership."""

    def __init__(self, run: Path, log: Path, config: Path, home_id: str) -> None:
        self._log = log
        self._config = config
        self._home_id = home_id
        self._mark_file = run / "gateway.json"
        self.master = Master(run / "master")

    def find(self) -> Running | None:
        """The running HAProxy of this home, None when there is none. GatewayFailed when it is stuck or another's."""
        deadline = time.monotonic() + _START_S
        while not self.master.answers():
            # While it reloads, the master answers nobody for a moment: its process tells that it lives.
            mark = ProcessMark.read(self._mark_file)
            if mark is None or not mark.alive:
                return None
            if time.monotonic() > deadline:
                raise GatewayFailed(
                    f"HAProxy (pid {mark.pid}) lives but does not answer at {self.master.path}. End it and try again."
                )
            time.sleep(0.05)
        while True:
            processes = self.master.processes()
            if processes.workers:
                break
            if processes.retired and time.monotonic() > deadline - _START_S + 2:
                # A reload failed: the latest of the former workers serves on.
                break
            if time.monotonic() > deadline:
                raise GatewayFailed(f"HAProxy (pid {processes.master}) has no worker. See {self._log}.")
            time.sleep(0.02)
        serving, *former = (*processes.workers, *processes.retired)
        info = self.master.info(serving)
        if info.description is None or info.description.home_id != self._home_id:
            raise GatewayFailed(f"The HAProxy that answers at {self.master.path} is not the gateway of this home.")
        return Running(processes.master, serving, tuple(former), info.version, info.uptime_s, info.description)

    def await_port(self, host: str, port: int) -> None:
        """PortInUse (or InvalidOption) unless a listener can be opened there.

        After a crash of the master its workers hold the port a little longer, which is waited for.
        """
        if self._mark_file.exists():
            deadline = time.monotonic() + _ORPHANS_END_S
            while not port_is_free(host, port) and time.monotonic() < deadline:
                time.sleep(0.05)
        check_port(host, port)

    def start(self, binary: Binary, host: str, port: int, log_limit_bytes: int) -> Running:
        """Start HAProxy on the written file and wait until it serves. PortInUse, or GatewayFailed with its reason."""
        self.master.path.unlink(missing_ok=True)
        offset = self._log.stat().st_size if self._log.exists() else 0
        mark = self._launch(binary, log_limit_bytes)
        deadline = time.monotonic() + _START_S
        while not self.master.answers():
            if not mark.alive:
                reason = " ".join(tail_from(self._log, offset)) or f"see {self._log}"
                if "Address already in use" in reason:
                    raise PortInUse(host, port, "--gateway-port")
                raise GatewayFailed(f"HAProxy did not start: {reason}")
            if time.monotonic() > deadline:
                with ProcessHandle(mark) as handle:
                    handle.send(SIGKILL)
                raise GatewayFailed(f"HAProxy did not become ready within {_START_S:.0f} s. See {self._log}.")
            time.sleep(0.01)
        running = self.find()
        if running is None:
            raise GatewayFailed(f"HAProxy ended right after its start. See {self._log}.")
        return running

    def _launch(self, binary: Binary, log_limit_bytes: int) -> ProcessMark:
        script = Path(__file__).with_name("launch.py")
        command = [sys.executable, "-I", "-S", str(script), str(self._log), str(log_limit_bytes)]
        haproxy = [str(binary.path), "-W", "-S", f"{self.master.path},mode,600", "-f", str(self._config)]
        result = subprocess.run([*command, *haproxy], capture_output=True, text=True, timeout=60, check=False)
        mark = ProcessMark.of(int(result.stdout)) if result.stdout.strip().isdigit() else None
        if result.returncode != 0:
            raise GatewayFailed(f"{binary.path} cannot be started: {result.stderr.strip()}.")
        if mark is None:
            raise GatewayFailed(f"HAProxy ended at once. See {self._log}.")
        mark.write(self._mark_file)
        return mark

    def reload(self, running: Running, shape: str) -> Running:
        """Let a new worker take over with the written file; requests in flight end in the old one."""
        answer = self._ask_reload()
        if "Success=0" in answer:
            raise GatewayFailed(f"HAProxy refused its new file and serves on with the old one: {answer}")
        deadline = time.monotonic() + _START_S
        while True:
            now = self.find()
            if now is None:
                raise GatewayFailed(f"HAProxy ended during a reload. See {self._log}.")
            if now.worker != running.worker and now.description.shape == shape:
                return now
            if time.monotonic() > deadline:
                raise GatewayFailed(f"HAProxy did not take its new file within {_START_S:.0f} s. See {self._log}.")
            time.sleep(0.02)

    def _ask_reload(self) -> str:
        try:
            return self.master.reload()
        except OSError as problem:
            raise GatewayFailed(f"HAProxy does not answer at {self.master.path}: {problem}.") from problem

    def stop(self, timeout_s: float) -> None:
        """End HAProxy: requests in flight get `timeout_s` to finish."""
        running = self.find()
        if running is not None:
            marks = [mark for pid in (running.master, *running.all_workers) if (mark := ProcessMark.of(pid))]
            self._end(running, marks, time.monotonic() + timeout_s)
        self._mark_file.unlink(missing_ok=True)
        self.master.path.unlink(missing_ok=True)

    def _end(self, running: Running, marks: list[ProcessMark], deadline: float) -> None:
        master = next((mark for mark in marks if mark.pid == running.master), None)
        if master is None:
            return
        with ProcessHandle(master) as handle:
            handle.send(SIGUSR1)
            # Idle connections alone are not waited for: nothing is lost with them.
            while not handle.ended(0.05) and time.monotonic() < deadline and self._at_work(running):
                pass
            handle.send(SIGTERM)
            if handle.ended(2.0):
                wait_gone(marks, time.monotonic() + 2.0)
        for mark in marks:
            with ProcessHandle(mark) as handle:
                handle.send(SIGKILL)
        wait_gone(marks, time.monotonic() + 2.0)

    def _at_work(self, running: Running) -> bool:
        try:
            rows = [row for pid in running.all_workers for row in self.master.retired_statistics(pid, "-1 2 -1")]
        except GatewayFailed:
            return False
        return any(int(row["scur"] or 0) + int(row["qcur"] or 0) for row in rows)


def port_is_free(host: str, port: int) -> bool:
    """Whether a listener could be opened there now. HAProxy itself would share the port of another of this user."""
    return _listen_problem(host, port) is None


def _listen_problem(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as problem:
        return problem
    return None


def free_port(host: str) -> int:
    """A port that is likely to be free after a restart too; `check_port` tells why when nothing can listen there.

    Below the range from which the kernel takes ports for outgoing connections (32768 and up by default).
    """
    for port in random.sample(_PORTS, 50):
        problem = _listen_problem(host, port)
        if problem is None or problem.errno != errno.EADDRINUSE:
            break
    return port


def check_port(host: str, port: int) -> None:
    """PortInUse, or InvalidOption when nothing can ever listen there: a wrong host, or a port that needs root."""
    problem = _listen_problem(host, port)
    if problem is None:
        return
    if problem.errno == errno.EADDRINUSE:
        raise PortInUse(host, port, "--gateway-port")
    reason = problem.strerror or str(problem)
    if problem.errno == errno.EACCES:
        raise InvalidOption("--gateway-port", port, f"{reason}; use 1024 or above")
    raise InvalidOption("--host", host, f"nothing can listen there: {reason}")
