"""The logs of a service: JSON lines of all its replicas, merged by time, filtered, followed.

Only the ends of the files are read, so that a large log costs no more than what is asked for.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from argosy.environments.foreign import open_foreign

_BLOCK_BYTES = 64 * 1024
_MOST_BYTES = 16 * 1024 * 1024


def tail(files: Sequence[Path], lines: int, request_id: str | None = None) -> list[str]:
    """The last `lines` JSON lines of all files together, oldest first; what is no JSON (a library that wrote to the
    descriptor itself) is wrapped."""
    found: list[tuple[str, int, str]] = []
    for number, path in enumerate(files):
        stamp = ""
        kept = []
        for raw in _last_lines(path, lines, request_id):
            stamp, text = as_json(raw, stamp)
            if _belongs(text, request_id):
                kept.append((stamp, number, text))
        found += kept[-lines:]
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
            parts = [(path, offset)]
            if inode != _inode(path) or _size(path) < offset:
                # Rotated: what came before that lies in the older file now.
                older = path.with_name(f"{path.name}.1")
                parts = [(older, offset), (path, 0)] if _inode(older) == inode else [(path, 0)]
            for part, begin in parts:
                whole = _whole_lines(part, begin)
                if part == path:
                    self._offsets[path] = (_inode(path), begin + len(whole))
                for raw in whole.splitlines():
                    self._stamp, text = as_json(raw, self._stamp)
                    if _belongs(text, request_id):
                        yield text


def as_json(raw: bytes, last_stamp: str) -> tuple[str, str]:
    """The line's time (the last known one for a line without) and the line as JSON text."""
    text = raw.decode(errors="replace")
    try:
        entry = json.loads(text)
        if isinstance(entry, dict) and isinstance(entry.get("timestamp"), str):
            return entry["timestamp"], text
    except (ValueError, RecursionError):
        pass
    wrapped = {"timestamp": last_stamp, "level": "info", "logger": "process", "message": text, "request_id": None}
    return last_stamp, json.dumps(wrapped)


def _belongs(text: str, request_id: str | None) -> bool:
    return request_id is None or json.loads(text).get("request_id") == request_id


def _last_lines(path: Path, lines: int, request_id: str | None) -> list[bytes]:
    """The last `lines` of a file; with `request_id` all of its end that may belong to that request."""
    # As it stands in a line of JSON.
    needle = None if request_id is None else json.dumps(request_id)[1:-1].encode()
    try:
        with open_foreign(path) as log:
            end = log.seek(0, os.SEEK_END)
            content, start, block_bytes = b"", end, _BLOCK_BYTES
            while start > 0 and end - start < _MOST_BYTES and (needle is not None or content.count(b"\n") <= lines):
                # Ever larger steps, so that a long look reads little twice.
                start, block_bytes = max(0, end - block_bytes, end - _MOST_BYTES), block_bytes * 4
                log.seek(start)
                content = log.read(end - start)
    except OSError:
        return []
    found = content.splitlines()
    if start > 0 and found:
        found = found[1:]
    return [line for line in found if line and (needle is None or needle in line)]


def _whole_lines(path: Path, offset: int) -> bytes:
    try:
        with open_foreign(path) as log:
            log.seek(offset)
            content = log.read(_MOST_BYTES)
    except OSError:
        return b""
    return content[: content.rfind(b"\n") + 1]


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
