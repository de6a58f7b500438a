"""Errors as the user sees them: one line each, the log lines that came with them, never a traceback."""

import time
import traceback
from pathlib import Path

from argosy import __version__
from argosy.cli.session import Session
from argosy.cli.text import clean
from argosy.errors import Error
from argosy.settings import Home

_CRASH_LOG_BYTES = 1_000_000


def report(problem: Exception, session: Session) -> int:
    """Tell it on stderr; the exit code."""
    if isinstance(problem, Error):
        session.tell(f"error: {clean(problem.message)}")
        for line in _log_lines(problem):
            session.tell(f"  | {clean(line)}")
        return problem.exit_code
    session.tell(f"error: this is a defect of argosy: {type(problem).__name__}: {clean(str(problem))}")
    session.tell(_keep_trace(problem, Home.locate(session.environ)))
    return 2


def _log_lines(problem: Error) -> list[str]:
    log = problem.details.get("log")
    return [part for line in log for part in str(line).splitlines()] if isinstance(log, list) else []


def _keep_trace(problem: Exception, home: Home) -> str:
    """Append the traceback to the crash log, which is started anew when it has grown too long."""
    path: Path = home.logs / "cli-crash.log"
    text = f"--- {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} argosy {__version__}\n"
    text += "".join(traceback.format_exception(problem))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = "w" if path.exists() and path.stat().st_size > _CRASH_LOG_BYTES else "a"
        with path.open(mode, encoding="utf-8", errors="backslashreplace") as out:
            out.write(text)
    except OSError as failed:
        return f"The traceback could not be kept in {path} ({failed.strerror})."
    return f"The whole traceback is in {path}; please report it with the command you typed."
