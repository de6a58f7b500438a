"""The replica's log: JSON lines in one append-only file that the replica rotates itself.

File descriptors 1 and 2 point at the file, so what C libraries and crashes write ends there too, as plain lines.
What Python prints goes through `Lines`, what it logs through `JsonHandler`; both name the request at work. Nothing
here ever raises into user code: when the disk is full, lines are dropped and counted.
"""

import contextlib
import datetime
import io
import logging
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import orjson

from argosy_serving.request_context import REQUEST_ID

_LONGEST_LINE = 64_000


class LogFile:
    """Owns the log's descriptor. `path` None writes to the process's own stdout and never rotates.

    `shared`: other users may read it.
    """

    def __init__(self, path: "Path | None", limit_bytes: int, shared: bool = False) -> None:
        self._mode = 0o644 if shared else 0o600
        self._path, self._limit_bytes = path, limit_bytes
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.dropped_lines = 0
        if path is None:
            self._fd = os.dup(1)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = self._open(path)
            self._redirect()

    def write(self, line: bytes) -> None:
        with self._lock:
            try:
                os.write(self._fd, line)
            except OSError:
                self.dropped_lines += 1
                return
        if self._path is not None:
            self.rotate_if_large()

    def rotate_if_large(self) -> None:
        """Keep one older file, `<path>.1`. Also called by time, for what C libraries wrote."""
        if self._path is None or os.getpid() != self._pid:  # a forked child must not move its parent's file
            return
        with self._lock:
            try:
                if os.fstat(self._fd).st_size < self._limit_bytes:
                    return
                with contextlib.suppress(FileNotFoundError):  # it was moved, and then no new one could be opened
                    self._path.replace(f"{self._path}.1")
                old, self._fd = self._fd, self._open(self._path)
                self._redirect()
                os.close(old)
            except OSError:
                self.dropped_lines += 1

    def _open(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, self._mode)

    def _redirect(self) -> None:
        os.dup2(self._fd, 1)
        os.dup2(self._fd, 2)


class Journal:
    """Turns a message into a JSON line. `identity` is what every line of this replica carries."""

    def __init__(self, file: LogFile, identity: "dict[str, Any]") -> None:
        self._file = file
        # Rendered once: it is the same on every line.
        self._tail = b"," + orjson.dumps(identity)[1:] + b"\n"

    def write(self, level: str, logger: str, message: str, exception: str = "") -> None:
        line: dict[str, Any] = {
            "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
            "level": level,
            "logger": logger,
            "message": message[:_LONGEST_LINE],
            "request_id": REQUEST_ID.get(),
        }
        if exception:
            line["exception"] = exception[-_LONGEST_LINE:]
        try:
            text = orjson.dumps(line)
        except TypeError:  # lone surrogates
            safe = {key: str(value).encode("utf-8", "backslashreplace").decode() for key, value in line.items()}
            text = orjson.dumps(safe)
        self._file.write(text[:-1] + self._tail)


class JsonHandler(logging.Handler):
    """Every log record of the process, as a line."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception as problem:  # noqa: BLE001 - wrong arguments of a user's log call
            message = f"{record.msg!r} with arguments that do not fit: {problem}"
        exception = ""
        if record.exc_info and record.exc_info[0] is not None:
            exception = "".join(traceback.format_exception(*record.exc_info))
        elif record.stack_info:
            exception = record.stack_info
        self._journal.write(record.levelname.lower(), record.name, message, exception)


class Lines(io.TextIOBase):
    """Stands in for sys.stdout and sys.stderr. A line is written when it ends, or when its request does."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, journal: Journal, name: str, fd: int) -> None:
        super().__init__()
        self._journal, self._name, self._fd = journal, name, fd
        self._partial = threading.local()
        # For code that writes bytes: those go to the file as they are.
        self.buffer = _Bytes(fd)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        waiting = getattr(self._partial, "text", "") + text
        *lines, rest = waiting.split("\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], ""
        self._partial.text = rest
        for line in lines:
            self._emit(line)
        return len(text)

    def end_request(self) -> None:
        """Write what this thread printed without a final newline."""
        if rest := getattr(self._partial, "text", ""):
            self._partial.text = ""
            self._emit(rest)

    def _emit(self, line: str) -> None:
        line = line.rstrip("\r")
        if line:
            self._journal.write("info", self._name, line)

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        """Nothing waits here but unfinished lines, which stay until they end."""

    @property
    def mode(self) -> str:
        return "w"


class _Bytes(io.RawIOBase):
    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def write(self, data: Any) -> int:
        try:
            os.write(self._fd, data)
        except OSError:
            pass  # a full disk must not break the caller
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd


def capture(journal: Journal) -> "tuple[Lines, Lines]":
    """Point print, logging and warnings of this process at `journal`. Returns the stand-ins for stdout and stderr."""
    out, err = Lines(journal, "stdout", 1), Lines(journal, "stderr", 2)
    sys.stdout, sys.stderr = out, err
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler(journal)]
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    return out, err


def set_level(name: str) -> None:
    logging.getLogger().setLevel(name.upper())


def _log_uncaught(kind: Any, problem: Any, trace: Any) -> None:
    logging.getLogger("argosy").critical("Uncaught exception", exc_info=(kind, problem, trace))
