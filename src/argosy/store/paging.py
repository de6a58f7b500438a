"""Cursors of lists: the last key of a page, opaque to callers."""

import base64
import json
from typing import TypeVar

from argosy.errors import InvalidOption

K = TypeVar("K", str, int)


def cursor_of(key: str | int) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def after(cursor: str | None, start: K) -> K:
    """The key that the next page begins after; `start` for the first page, whose type the key must have."""
    if cursor is None:
        return start
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        # What the database can compare with: no half characters, and numbers of 64 bits.
        usable = abs(key) < 2**63 if type(key) is int else bool(str(key).encode())
    except (ValueError, RecursionError):
        key, usable = None, False
    if type(key) is not type(start) or not usable:
        raise InvalidOption("cursor", cursor, "use the `next` of the page before")
    return key
