"""Run a command on some cores, with no way out of its tree: `python launcher.py 0,1 end|keep COMMAND...`.

Children that outlive their parents fall to this process, which reaps them: its children's CPU time is all that the
server has used and that is not seen in a living process. SIGTERM is passed on; what still lives after a while is
killed. `keep`: what the command has started may outlive it.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import psutil

_PR_SET_CHILD_SUBREAPER, _PR_SET_PDEATHSIG = 36, 1
_GRACE_S = 10.0


def main() -> int:
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})
    command = subprocess.Popen(sys.argv[3:])

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(command.pid, signal.SIGTERM)
        threading.Thread(target=_kill_rest, daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            pid, _ = os.wait()
        except ChildProcessError:
            return 0
        if pid == command.pid and sys.argv[2] == "end":
            # What the command leaves behind is not waited for.
            threading.Thread(target=_kill_rest, args=(1.0,), daemon=True).start()


def _kill_rest(after_s: float = _GRACE_S) -> None:
    until = time.monotonic() + after_s
    while time.monotonic() < until and psutil.Process().children():
        time.sleep(0.05)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
