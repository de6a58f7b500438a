"""Keeps the gateway's log small while HAProxy writes into it."""

import os
import shutil
from pathlib import Path


def rotate(log: Path, limit_bytes: int) -> bool:
    """Copy the log to `<log>.1` and empty it, when it has reached the limit. True when it did.

    HAProxy appends (O_APPEND) to one descriptor for its whole life, so the file is emptied, not replaced: no reload
    and no restart is needed. A line written between the copy and the emptying is lost.
    """
    try:
        if log.stat().st_size < limit_bytes:
            return False
    except FileNotFoundError:
        return False
    older = log.with_name(log.name + ".1")
    temporary = log.with_name(log.name + ".copy")
    try:
        shutil.copyfile(log, temporary)
        temporary.chmod(0o600)
        temporary.replace(older)
    except OSError:
        # A full disk: the older log is given up, since the newer one must not grow for ever.
        temporary.unlink(missing_ok=True)
    os.truncate(log, 0)
    return True


def tail_from(log: Path, offset: int, lines: int = 12) -> list[str]:
    """The last lines after `offset` bytes; all there is when the log was emptied since."""
    try:
        with log.open("rb") as file:
            file.seek(offset if offset <= log.stat().st_size else 0)
            text = file.read(1_000_000).decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
