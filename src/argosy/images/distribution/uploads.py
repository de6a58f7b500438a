"""One blob to a registry: skipped, mounted, sent whole or in chunks, and taken up again where the registry stopped."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from argosy.errors import RegistryFailed, StorageFailed
from argosy.images.distribution.patience import PASSING
from argosy.images.distribution.progress import Moved, Progress
from argosy.images.distribution.refusals import refusal
from argosy.images.distribution.session import Ask, RegistrySession
from argosy.images.oci.blobs import OciBlobs
from argosy.images.oci.layout import Descriptor

# Smaller blobs go in one request. Registries on object storage want chunks of 5 MiB at least.
CHUNK_BYTES = 32 << 20
_BLOCK_BYTES = 256 << 10
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


class _Again(Exception):
    """The upload cannot go on but may begin anew; says why, and what the registry answered."""

    def __init__(self, why: str, response: httpx.Response | None = None) -> None:
        super().__init__(why)
        self.response = response
        self.wrong = response is not None and response.status_code == 400


@dataclass
class BlobUpload:
    """Of one blob into one repository. `mount_from` is a repository of the same registry that may have it already."""

    session: RegistrySession
    path: str
    blobs: OciBlobs
    blob: Descriptor
    progress: Progress
    mount_from: str | None = None
    chunk_bytes: int = CHUNK_BYTES

    def run(self) -> None:
        if self.there():
            return self._tell("present")
        self.blobs.verify(self.blob.digest)
        attempts = self.session.patience.attempts
        for number in range(1, attempts + 1):
            location = self._begin()
            if location is None:
                return self._tell("mounted")
            try:
                self._send(location)
                return self._tell("done")
            except _Again as problem:
                failure = problem
            # Bytes may change on the way once; a registry that finds them wrong twice is right.
            if number == attempts or (number > 1 and failure.wrong):
                break
            self.session.patience.pause(self.session.host, number, failure.response)
        raise RegistryFailed(
            self.session.host,
            f"The registry {self.session.host} did not take {self.blob.digest} ({self.blob.size_bytes:,} bytes) in "
            f"{number} attempts: {failure}. Look at its log and its disk, then push again.",
        )

    def there(self) -> bool:
        """Whether the repository has the blob."""
        ask = self._ask("HEAD", f"v2/{self.path}/blobs/{self.blob.digest}")
        return self.session.send(ask, (200, 404)).status_code == 200

    def _tell(self, state: str, done_bytes: int | None = None) -> None:
        done = self.blob.size_bytes if done_bytes is None else done_bytes
        self.progress(Moved(self.blob.digest, state, done, self.blob.size_bytes))

    def _ask(self, method: str, target: str, **more: Any) -> Ask:
        scopes = [f"repository:{self.path}:pull,push"]
        if self.mount_from is not None:
            scopes.append(f"repository:{self.mount_from}:pull")
        return Ask(method, target, f"push to {self.path}", tuple(scopes), **more)

    def _begin(self) -> str | None:
        """Where to send the blob; None when the registry mounted it from another repository."""
        target = f"v2/{self.path}/blobs/uploads/"
        if self.mount_from is not None:
            mount = self._ask("POST", f"{target}?mount={self.blob.digest}&from={self.mount_from}")
            # Some registries refuse what they cannot mount, others begin an upload.
            response = self.session.send(mount, (201, 202, 400, 403, 404, 405))
            if response.status_code == 201:
                return None
            if response.status_code == 202:
                return self._location(response)
        return self._location(self.session.send(self._ask("POST", target), (202,)))

    def _location(self, response: httpx.Response) -> str:
        location = response.headers.get("location", "")
        if not location:
            raise RegistryFailed(self.session.host, f"The registry {self.session.host} does not say where to push to.")
        least = response.headers.get("oci-chunk-min-length", "")
        if least.isascii() and least.isdigit():
            self.chunk_bytes = max(self.chunk_bytes, int(least))
        return self.session.url(location)

    def _send(self, location: str) -> None:
        if self.blob.size_bytes <= self.chunk_bytes:
            return self._finish(location, self.blob.size_bytes)
        done, fruitless = 0, 0
        while done < self.blob.size_bytes:
            failure, response = self._send_chunk(location, done)
            before = done
            if not failure and response is not None:
                location, done = self._location(response), self._received(response, done + self.chunk_bytes)
                failure = "it takes chunks but keeps nothing of them"
            else:
                self.session.patience.pause(self.session.host, fruitless + 1, response)
                location, done = self._where(location, failure)
            fruitless = 0 if done > before else fruitless + 1
            if fruitless >= self.session.patience.attempts:
                raise _Again(failure, response)
            self._tell("moving", done)
        return self._finish(location, 0)

    def _send_chunk(self, location: str, start: int) -> tuple[str, httpx.Response | None]:
        """What went wrong but may go well the next time, empty when all did; and the answer, if there was one."""
        try:
            response = self.session.send_once(
                self._chunk(location, start, min(start + self.chunk_bytes, self.blob.size_bytes))
            )
        except httpx.RequestError as problem:
            return f"the connection broke ({type(problem).__name__})", None
        if response.status_code in (201, 202, 204):
            return "", response
        if response.status_code in (*PASSING, 416):
            return f"HTTP {response.status_code}", response
        if response.status_code in (400, 404):
            raise _Again(f"it ended the upload with HTTP {response.status_code}", response)
        raise refusal(self.session.host, self.session.user, f"push to {self.path}", response)

    def _chunk(self, location: str, start: int, end: int) -> Ask:
        headers = {
            "content-type": "application/octet-stream",
            "content-range": f"{start}-{end - 1}",
            "content-length": str(end - start),
        }
        return self._ask("PATCH", location, headers=headers, content=lambda: self._read(start, end), slow=True)

    def _where(self, location: str, failure: str) -> tuple[str, int]:
        """Where the upload goes on and how many bytes the registry has of it.

        Registries that sign the offset into the location (Distribution 2) give up an upload that was cut within a
        chunk, and say 404 here: it begins anew.
        """
        response = self.session.send(self._ask("GET", location), (202, 204, 400, 404, 416))
        if response.status_code not in (202, 204):
            raise _Again(f"{failure}, and the upload is not known any more (HTTP {response.status_code})")
        known = response.headers.get("location")
        return (self.session.url(known) if known else location), self._received(response, 0)

    def _received(self, response: httpx.Response, assumed: int) -> int:
        """By its Range header, `0-<last byte>`. A registry that has nothing says 0-0."""
        found = _RANGE.fullmatch(response.headers.get("range", ""))
        if not found:
            return min(assumed, self.blob.size_bytes)
        count = int(found[1]) + 1 if int(found[1]) else 0
        if count > self.blob.size_bytes:
            raise _Again(f"it says that it has {count:,} bytes of {self.blob.size_bytes:,}")
        return count

    def _finish(self, location: str, rest: int) -> None:
        """Close the upload, with the last `rest` bytes in it; the registry compares the digest."""
        # Appended as it is: the rest of the query may be signed.
        url = f"{location}{'&' if '?' in location else '?'}digest={self.blob.digest}"
        headers = {"content-type": "application/octet-stream", "content-length": str(rest)}
        start = self.blob.size_bytes - rest
        ask = self._ask("PUT", url, headers=headers, content=lambda: self._read(start, self.blob.size_bytes), slow=True)
        try:
            response = self.session.send_once(ask)
        except httpx.RequestError as problem:
            # It may have been the answer that was lost.
            if self.there():
                return
            raise _Again(f"the connection broke ({type(problem).__name__})") from problem
        if response.status_code in (201, 204):
            return
        if response.status_code in (400, 404, 416, *PASSING):
            error = refusal(self.session.host, self.session.user, f"push to {self.path}", response)
            raise _Again(error.message.rstrip("."), response)
        raise refusal(self.session.host, self.session.user, f"push to {self.path}", response)

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        with self.blobs.open(self.blob.digest) as stream:
            stream.seek(start)
            while start < end:
                block = stream.read(min(_BLOCK_BYTES, end - start))
                if not block:
                    raise StorageFailed(
                        f"The stored blob {self.blob.digest} is shorter than {self.blob.size_bytes:,} bytes. Delete "
                        "the image, then pull or build it again."
                    )
                start += len(block)
                yield block
