"""Who is calling: the service's keys, by their SHA-256, compared in constant time."""

import base64
import binascii
import hashlib
import hmac

from argosy_serving.settings import LiveSettings

_SHOWN = 4  # bytes of the digest that tell callers apart in logs


def caller_of(settings: LiveSettings, authorization: "bytes | None", browser: bool = False) -> "str | None":
    """A short name of the key, '' when keys are off, None when the key is missing or wrong.

    `browser`: the documents also take the key as the password of HTTP Basic, for a browser can send nothing else.
    """
    if not settings.auth:
        return ""
    if authorization is None:
        return None
    scheme, _, credentials = authorization.partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        key = credentials.strip()
    elif scheme == b"basic" and browser:
        try:
            key = base64.b64decode(credentials, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return None
    else:
        return None
    digest = hashlib.sha256(key).digest()
    found = None
    for known in settings.keys:  # all of them, so that the time tells nothing
        if hmac.compare_digest(known, digest):
            found = digest
    return None if found is None else found[:_SHOWN].hex()
