"""Run as a script: `python -I -S launch.py LOG LIMIT_BYTES PROGRAM ARGUMENT...` starts a program that outlives us.

The program is detached (own session, parent is init), logs into LOG, and prints nothing here; its pid is printed.
A limit on file size bounds LOG even when nobody is there to rotate it: further lines are lost, and since the signal
that comes with the limit is ignored, the program runs on. Standard library only, and nothing of argosy: it starts fast.
"""

import os
import resource
import signal
import sys


def main() -> int:
    log, limit_bytes, *command = sys.argv[1:]
    failed_read, failed_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        child = os.fork()
        if child:
            os.write(1, f"{child}\n".encode())
            os._exit(0)
        try:
            _become(log, int(limit_bytes), command)
        except OSError as problem:
            os.write(failed_write, f"{problem}".encode())
        os._exit(127)
    os.close(failed_write)
    os.waitpid(pid, 0)
    # The pipe closes by itself when the program starts; otherwise it says why not.
    reason = os.read(failed_read, 4096)
    os.write(2, reason)
    return 1 if reason else 0


def _become(log: str, limit_bytes: int, command: list[str]) -> None:
    os.umask(0o077)
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
