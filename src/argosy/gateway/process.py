"""A process that is not our child: which one it is, whether it lives, and how to end it for certain."""

import json
import os
import select
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from argosy.keys import write_private

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessMark:
    """A pid alone proves nothing, since it is used again; with its start time and the boot it names one process.

    `start_ticks` is field 22 of /proc/PID/stat (clock ticks since the boot).
    """

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> "ProcessMark | None":
        """None when there is no such process, or only its zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The command name, in parentheses, may hold spaces and parentheses itself.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]), _BOOT_ID.read_text().strip())

    @classmethod
    def read(cls, path: Path) -> "ProcessMark | None":
        try:
            fields = json.loads(path.read_text())
            return cls(int(fields["pid"]), int(fields["start_ticks"]), str(fields["boot_id"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self)).encode())

    @property
    def alive(self) -> bool:
        return ProcessMark.of(self.pid) == self


class ProcessHandle:
    """Signals to exactly this process through a pidfd. Use as a context manager."""

    def __init__(self, mark: ProcessMark) -> None:
        self.pid = mark.pid
        self._descriptor = -1
        try:
            descriptor = os.pidfd_open(mark.pid)
        except ProcessLookupError:
            return
        # Looked at after opening: from here on the descriptor cannot come to mean another process.
        if mark.alive:
            self._descriptor = descriptor
        else:
            os.close(descriptor)

    def __enter__(self) -> "ProcessHandle":
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def send(self, signal_number: signal.Signals) -> None:
        """Nothing happens when the process is gone."""
        if self._descriptor >= 0:
            try:
                signal.pidfd_send_signal(self._descriptor, signal_number)
            except ProcessLookupError:
                pass

    def ended(self, wait_s: float = 0.0) -> bool:
        """Whether the process has ended, waiting for at most `wait_s`."""
        if self._descriptor < 0:
            return True
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        return bool(poller.poll(max(0.0, wait_s) * 1000))


def wait_gone(marks: list[ProcessMark], deadline: float) -> bool:
    """Whether all have ended before `deadline` (monotonic)."""
    for mark in marks:
        with ProcessHandle(mark) as handle:
            if not handle.ended(deadline - time.monotonic()):
                return False
    return True
