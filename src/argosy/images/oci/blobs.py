"""Where OCI blobs lie, as builders and the registry client see it."""

from collections.abc import Iterable
from typing import BinaryIO, Protocol


class OciBlobs(Protocol):
    """Blobs by digest (`sha256:<hex>`); manifests and indexes are blobs too."""

    def has(self, digest: str) -> bool: ...
    def size(self, digest: str) -> int: ...
    def open(self, digest: str) -> BinaryIO: ...
    def verify(self, digest: str) -> None:
        """StorageFailed when it is corrupt; then it is removed, so that it is stored anew."""

    def add(self, chunks: Iterable[bytes], digest: str | None = None) -> tuple[str, int]:
        """Store what `chunks` yield, atomically; digest and size. A digest that is given must be what comes out."""
