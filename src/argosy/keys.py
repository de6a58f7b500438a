"""Service keys and the control plane's token: made, hashed, and sealed at rest.

A key is 256 random bits in URL-safe base64. The data plane sees only its SHA-256; the database keeps it sealed by
AES-256-GCM (NIST SP 800-38D) under a master key from a 0600 file or the environment variable ARGOSY_MASTER_KEY.
"""

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from argosy.errors import StorageFailed

_NONCE_BYTES = 12


def new_key() -> str:
    """256 random bits, 43 characters of URL-safe base64."""
    return secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """SHA-256 in hex: enough for random keys, which cannot be guessed from a dictionary."""
    return hashlib.sha256(key.encode()).hexdigest()


def same(left: str, right: str) -> bool:
    """Equality in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read (0600), whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_or_make(path: Path, make: str) -> str:
    """The secret in `path`; `make` is written there first when there is none. StorageFailed when it holds none."""
    if not path.exists():
        write_private(path, make.encode() + b"\n")
    secret = path.read_bytes().decode("ascii", "replace").strip()
    if not secret or not secret.isascii():
        raise StorageFailed(
            f"{path} holds no secret. Restore it from a backup; a new one, made when it is deleted, fits nothing that "
            "the old one sealed or let in."
        )
    return secret


class Vault:
    """Seals and opens keys. `master` is 32 bytes in URL-safe base64."""

    def __init__(self, master: str) -> None:
        try:
            raw = base64.urlsafe_b64decode(master + "=" * (-len(master) % 4))
        except ValueError:
            raw = b""
        if len(raw) != 32:
            raise StorageFailed(
                f"The master key has {len(raw)} bytes instead of 32. Restore $ARGOSY_HOME/master.key from a backup."
            )
        self._raw = raw

    @classmethod
    def open(cls, path: Path) -> "Vault":
        """From ARGOSY_MASTER_KEY, else from `path`, which is made on first use."""
        return cls(os.environ.get("ARGOSY_MASTER_KEY") or read_or_make(path, new_key()))

    def seal(self, secret: str, purpose: str) -> bytes:
        """`purpose` (say `iris/primary`) is authenticated: a sealed key moved to another row does not open."""
        # Imported here: the package costs 40 ms, and the CLI never seals.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._raw).encrypt(nonce, secret.encode(), purpose.encode())

    def open_sealed(self, sealed: bytes, purpose: str) -> str:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self._raw).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode()).decode()
        except (InvalidTag, ValueError):
            raise StorageFailed(
                f"The key of {purpose} cannot be opened: it was sealed under another master key. Restore "
                "$ARGOSY_HOME/master.key from a backup, or make new keys with `argosy service keys NAME --regenerate`."
            ) from None
