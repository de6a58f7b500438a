"""Processes that outlive the control plane: who they are, and how to signal them without hitting a stranger.

A pid alone proves nothing: it is reused, and a zombie still answers `kill(pid, 0)`. An identity is the pid with the
boot and the start time, and signals go through a pidfd where the system has one.
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Identity:
    """`started` is the kernel's start time, in whatever unit; `boot` its boot id, empty where there is none."""

    pid: int
    started: float
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """None when no such process lives."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started, boot_id())

    @property
    def alive(self) -> bool:
        """The very same process, and not a zombie."""
        return self.boot == boot_id() and _start_time(self.pid) == self.started

    def terminate(self) -> None:
        """SIGTERM to the process alone, so that helpers of user code can still finish its requests."""
        self._signal(signal.SIGTERM, group=False)

    def kill(self) -> None:
        """SIGKILL to the process and its group."""
        self._signal(signal.SIGKILL, group=True)

    def _signal(self, number: signal.Signals, group: bool) -> None:
        descriptor = -1
        try:
            if hasattr(os, "pidfd_open"):
                # Held before the check: the pid cannot be reused from here on.
                descriptor = os.pidfd_open(self.pid)
            if not self.alive:
                return
            if group and os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            elif descriptor >= 0:
                signal.pidfd_send_signal(descriptor, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def end_session(leader: Identity, mark: str | None = None) -> None:
    """Kill what a process that led a session has left behind.

    The number of a session that is empty is given out again, so that strangers may carry it by now: after another boot
    nothing is killed, and with `mark`, `NAME=value`, only what has that in its environment. Without a mark the caller
    has seen the leader alive a moment ago.
    """
    if leader.boot != boot_id():
        return
    for pid in psutil.pids():
        try:
            if pid != leader.pid and os.getsid(pid) == leader.pid and (mark is None or _has(pid, mark)):
                os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _has(pid: int, mark: str) -> bool:
    name, _, value = mark.partition("=")
    try:
        return psutil.Process(pid).environ().get(name) == value
    except psutil.Error:
        return False


def _start_time(pid: int) -> float | None:
    """None for a process that is gone or a zombie. On Linux in clock ticks since boot, which no clock change moves."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else float(fields[19])
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
