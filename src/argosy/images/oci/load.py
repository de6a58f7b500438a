"""An image from an archive into the layout: every blob verified, nothing larger than it says, nothing tagged."""

from collections.abc import Callable, Iterator

from argosy.errors import InvalidFile, TooLarge
from argosy.images.oci.layout import DOCKER_LIST, INDEX, Descriptor, Malformed, OciLayout
from argosy.images.oci.sources import Source

_DEEPEST = 3
_LARGEST_DOCUMENT_BYTES = 4 << 20
# Bytes stored so far.
Progress = Callable[[int], object]


class Loader:
    """Of one archive. `limit_bytes` bounds all that is stored."""

    def __init__(self, layout: OciLayout, source: Source, limit_bytes: int, progress: Progress) -> None:
        self._layout, self._source, self._limit, self._progress = layout, source, limit_bytes, progress
        self._done = 0

    def run(self) -> str:
        """The digest of the index or manifest. Raises InvalidFile, TooLarge, StorageFailed."""
        top = self._source.top()
        self._document(top, _DEEPEST)
        return top.digest

    def _document(self, wanted: Descriptor, deepest: int) -> None:
        if wanted.size_bytes > _LARGEST_DOCUMENT_BYTES or not deepest:
            raise InvalidFile(
                self._source.reference, f"{wanted.digest} is no manifest: it is too large or lies too deep"
            )
        self._blob(wanted)
        content = self._layout.json(wanted.digest)
        try:
            if content.get("mediaType") in (INDEX, DOCKER_LIST) or "manifests" in content:
                children, blobs = [Descriptor.of(item) for item in content["manifests"]], []
            else:
                children, blobs = [], [Descriptor.of(item) for item in (content["config"], *content["layers"])]
        except (Malformed, KeyError, TypeError) as problem:
            raise InvalidFile(
                self._source.reference, f"its manifest {wanted.digest} cannot be used: {problem}"
            ) from None
        for child in children:
            self._document(child, deepest - 1)
        for blob in blobs:
            self._blob(blob)

    def _blob(self, wanted: Descriptor) -> None:
        if self._done + wanted.size_bytes > self._limit:
            raise TooLarge("The image", self._limit)
        if not self._layout.is_whole(wanted):
            self._layout.add(self._counted(wanted), wanted.digest)
        self._done += wanted.size_bytes
        self._progress(self._done)

    def _counted(self, wanted: Descriptor) -> Iterator[bytes]:
        count = 0
        for chunk in self._source.read(wanted.digest):
            count += len(chunk)
            if count > wanted.size_bytes:
                raise InvalidFile(self._source.reference, f"its blob {wanted.digest} has more bytes than it says")
            self._progress(self._done + count)
            yield chunk
