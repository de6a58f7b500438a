"""Files in folders that a replica can write to: they may be links, pipes or devices by the time they are opened."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

_MOST_BYTES = 1_000_000


def open_foreign(path: Path) -> BinaryIO:
    """For reading. OSError for everything but a regular file: no link is followed, no pipe is waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_foreign(path: Path) -> bytes:
    """The beginning of a regular file. Raises OSError."""
    with open_foreign(path) as file:
        return file.read(_MOST_BYTES)
