"""One blob from a registry: verified while it arrives, taken up again with Range where a connection broke."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from argosy.errors import RegistryFailed
from argosy.images.distribution.progress import Moved, Progress
from argosy.images.distribution.session import Ask, RegistrySession
from argosy.images.oci.blobs import OciBlobs
from argosy.images.oci.layout import Descriptor

_TELL_EVERY_BYTES = 4 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


@dataclass
class BlobDownload:
    """Of one blob of one repository."""

    session: RegistrySession
    path: str
    blobs: OciBlobs
    blob: Descriptor
    progress: Progress

    def run(self) -> None:
        """Nothing is stored when it fails."""
        if self.blobs.has(self.blob.digest):
            self._tell("present", self.blob.size_bytes)
            return
        self.blobs.add(self._verified(), self.blob.digest)
        self._tell("done", self.blob.size_bytes)

    def _tell(self, state: str, done_bytes: int) -> None:
        self.progress(Moved(self.blob.digest, state, done_bytes, self.blob.size_bytes))

    def _verified(self) -> Iterator[bytes]:
        digest, done, told = hashlib.sha256(), 0, 0
        for block in self._all():
            digest.update(block)
            done += len(block)
            if done > self.blob.size_bytes:
                raise self._wrong(f"more than the {self.blob.size_bytes:,} bytes that its manifest names")
            if done - told >= _TELL_EVERY_BYTES:
                told = done
                self._tell("moving", done)
            yield block
        if f"sha256:{digest.hexdigest()}" != self.blob.digest:
            raise self._wrong(f"{done:,} bytes with the digest sha256:{digest.hexdigest()}")

    def _wrong(self, what: str) -> RegistryFailed:
        return RegistryFailed(
            self.session.host,
            f"The registry {self.session.host} sent for {self.path}@{self.blob.digest} {what}. Nothing was kept. "
            "Push the image there again, or use another registry.",
        )

    def _all(self) -> Iterator[bytes]:
        """The blob's bytes, over as many connections as it takes while each brings something."""
        done, fruitless = 0, 0
        while True:
            before = done
            problem: httpx.RequestError | None = None
            try:
                for block in self._from(done):
                    done += len(block)
                    yield block
            except httpx.RequestError as broken:
                problem = broken
            if done >= self.blob.size_bytes and problem is None:
                return
            fruitless = 0 if done > before else fruitless + 1
            if fruitless >= self.session.patience.attempts:
                why = f"the connection broke ({type(problem).__name__})" if problem else "the body ended early"
                raise RegistryFailed(
                    self.session.host,
                    f"The registry {self.session.host} sent {done:,} of {self.blob.size_bytes:,} bytes of "
                    f"{self.path}@{self.blob.digest}, then nothing in {fruitless} attempts: {why}. Pull again later.",
                )
            self.session.patience.pause(self.session.host, fruitless + 1)

    def _from(self, start: int) -> Iterator[bytes]:
        headers = {"range": f"bytes={start}-{self.blob.size_bytes - 1}"} if start else {}
        target = f"v2/{self.path}/blobs/{self.blob.digest}"
        ask = Ask("GET", target, f"pull {self.path}", (f"repository:{self.path}:pull",), headers)
        with self.session.stream(ask, (200, 206)) as response:
            skip = start
            if response.status_code == 206:
                found = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
                if not found or int(found[1]) != start:
                    raise self._wrong(f"another part than the one from byte {start:,} that was asked for")
                skip = 0
            # A registry that does not know Range sends all of it anew. Blocks come as they arrive: when they are
            # gathered to a size of ours, what was gathered is lost with the connection.
            for block in response.iter_raw():
                if skip >= len(block):
                    skip -= len(block)
                else:
                    yield block[skip:]
                    skip = 0
