"""Whether a caller has one of a service's keys, for who answers in a replica's place."""

import base64
import binascii
import hmac
from collections.abc import Sequence

from argosy.keys import key_hash


def admits(authorization: bytes | None, hashes: Sequence[str]) -> bool:
    """`authorization` is the header: Bearer with a key, or Basic with one as the password, as browsers have it."""
    scheme, _, credentials = (authorization or b"").partition(b" ")
    try:
        if scheme.lower() == b"bearer":
            key = credentials.strip().decode()
        elif scheme.lower() == b"basic":
            key = base64.b64decode(credentials, validate=True).partition(b":")[2].decode()
        else:
            return False
    except (binascii.Error, ValueError):
        return False
    digest = key_hash(key)
    # All of them, so that the time tells nothing.
    return sum(hmac.compare_digest(digest, known) for known in hashes) > 0
