"""The logs of a service: JSON lines of all its replicas, merged by time, filtered, followed.

Only the ends of the files are read, so that a large log costs no more than what is asked for.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_BLOCK_BYTES = 64 * 1024
_MOST_BYTES = 16 * 1024 * 1024


def tail(files: Sequence[Path], lines: int, request_id: str | None = None) -> list[str]:
    """The last `lines` JSON lines of all files together, oldest first; what is no JSON (a library that wrote to the
    descriptor itself) is wrapped."""
    found: list[tuple[str, int, str]] = []
    for number, path in enumerate(files):
        stamp = ""
        kept = []
        for raw in _last_lines(path, lines, None if request_id is None else request_id.encode()):
            stamp, text = as_json(raw, stamp)
            kept.append((stamp, number, text))
        found += kept[-lines:]
    if request_id is not None:
        found = [entry for entry in found if json.loads(entry[2]).get("request_id") == request_id]
    # Stable: lines of the same file keep their order.
    return [text for _, _, text in sorted(found, key=lambda entry: entry[0])[-lines:]]


class Follower:
    """New lines of a growing, changing set of files. Call `read` every now and then."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._offsets = {path: (_inode(path), _size(path)) for path in files}
        self._stamp = ""

    def read(self, files: Sequence[Path], request_id: str | None = None) -> list[str]:
        """What came since the last call, in `files` as they are now."""
        return list(self._read(files, request_id))

    def _read(self, files: Sequence[Path], request_id: str | None) -> Iterator[str]:
        for path in files:
            if path.name.endswith(".1"):
                continue
            inode, offset = self._offsets.get(path, (_inode(path), 0))
            if inode != _inode(path) or _size(path) < offset:
                inode, offset = _inode(path), 0
            try:
                with path.open("rb") as log:
                    log.seek(offset)
                    content = log.read(_MOST_BYTES)
            except OSError:
                continue
            whole = content[: content.rfind(b"\n") + 1]
            self._offsets[path] = (inode, offset + len(whole))
            for raw in whole.splitlines():
                self._stamp, text = as_json(raw, self._stamp)
                if request_id is None or json.loads(text).get("request_id") == request_id:
                    yield text


def as_json(raw: bytes, last_stamp: str) -> tuple[str, str]:
    """The line's time (the last known one for a line without) and the line as JSON text."""
    text = raw.decode(errors="replace")
    try:
        entry = json.loads(text)
        if isinstance(entry, dict) and isinstance(entry.get("timestamp"), str):
            return entry["timestamp"], text
    except ValueError:
        pass
    wrapped = {"timestamp": last_stamp, "level": "info", "logger": "process", "message": text, "request_id": None}
    return last_stamp, json.dumps(wrapped)


def _last_lines(path: Path, lines: int, needle: bytes | None) -> list[bytes]:
    try:
        with path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            content, start = b"", end
            while start > 0 and end - start < _MOST_BYTES and (needle is not None or content.count(b"\n") <= lines):
                start = max(0, start - _BLOCK_BYTES)
                log.seek(start)
                content = log.read(end - start)
    except OSError:
        return []
    found = content.splitlines()
    if start > 0 and found:
        found = found[1:]
    return [line for line in found if line and (needle is None or needle in line)]


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
