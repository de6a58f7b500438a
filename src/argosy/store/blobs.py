"""Content-addressed blobs: bytes under their own SHA-256, written once and never changed.

Local layout: `<root>/sha256/ab/<sha256>` (0400) and `<root>/incoming/` for what is still being written. A blob appears
by an atomic rename after fsync, so a crash leaves either the whole blob or a file in `incoming/`.

Garbage collection goes by age: every upload of a blob, first or repeated, and `touch` renew its time, so a blob whose
row is not written yet is never collected as long as the row follows within `older_than_s`.
"""

import asyncio
import errno
import hashlib
import os
import queue
import re
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, TypeVar

from argosy.errors import InvalidFile, InvalidOption, StorageFailed, TooLarge

T = TypeVar("T")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# One block is what a thread hashes or writes at a time: long enough to make the hand-over cheap, small enough that a
# hundred uploads at once stay within some hundred megabytes.
_BLOCK_BYTES = 1 << 20
_HASH_QUEUE_BLOCKS = 4
# Smaller blobs are hashed on the spot: a thread would cost more than it saves.
_THREAD_FROM_BYTES = 4 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Blob:
    sha256: str
    size_bytes: int


class BlobStore(Protocol):
    """Where stages keep bytes. `put` and `open` raise StorageFailed when the storage does not obey."""

    def put(self, chunks: Iterable[bytes], limit_bytes: int | None = None) -> Blob: ...

    def open(self, sha256: str) -> BinaryIO: ...

    def has(self, sha256: str) -> bool: ...

    def delete(self, sha256: str) -> None: ...


class LocalBlobs:
    """Blobs in a folder of this machine, used by one process at a time (the control plane holds the home's lock).

    `flat` puts them into one folder, `<root>/sha256/<sha256>`, as an OCI layout wants it. `before` is told of each blob
    just before it appears.
    """

    def __init__(
        self,
        root: Path,
        flat: bool = False,
        incoming: Path | None = None,
        before: Callable[[str], object] = lambda sha256: None,
    ) -> None:
        self._root = root
        self._before = before
        self._flat = flat
        self._shelves = root / "sha256"
        self.incoming = incoming or root / "incoming"
        # Held for the instant in which a blob appears, is renewed or is collected; never while bytes move.
        self._placing = threading.Lock()
        # Own threads: an upload must not starve, nor be starved by, what else the process runs on the default executor.
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="blobs")

    def close(self) -> None:
        self._threads.shutdown()

    def path(self, sha256: str) -> Path:
        """Where the blob lies, whether it is there or not. Never hand it to somebody who writes."""
        if not _SHA256.fullmatch(sha256):
            raise InvalidOption("sha256", sha256, "it must be 64 hexadecimal digits in lower case")
        return (self._shelves if self._flat else self._shelves / sha256[:2]) / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def touch(self, sha256: str) -> int | None:
        """Renew the blob's age and answer its size in bytes; None when there is no such blob."""
        path = self.path(sha256)
        with self._placing:
            try:
                os.utime(path)
                return path.stat().st_size
            except FileNotFoundError:
                return None
            except OSError as problem:
                raise _failure("keep", path, problem) from problem

    def open(self, sha256: str) -> BinaryIO:
        """For reading. StorageFailed when the blob is missing, since only what was stored is asked for."""
        path = self.path(sha256)
        try:
            return path.open("rb")
        except FileNotFoundError as problem:
            raise _missing(path) from problem
        except OSError as problem:
            raise _failure("read", path, problem) from problem

    def verify(self, sha256: str) -> Blob:
        """Hash the blob again. StorageFailed when it is missing or its bytes have changed."""
        digest, size_bytes = hashlib.sha256(), 0
        with self.open(sha256) as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                size_bytes += len(block)
        if digest.hexdigest() != sha256:
            raise StorageFailed(
                f"{self.path(sha256)} is corrupt: its content has the SHA-256 {digest.hexdigest()}. Check the disk, "
                "then restore the file from a backup or register the model again.",
                {"sha256": sha256},
            )
        return Blob(sha256, size_bytes)

    def delete(self, sha256: str) -> None:
        with self._placing:
            self.path(sha256).unlink(missing_ok=True)

    def take(self, sha256: str) -> Path | None:
        """Take the blob out of the store in one step; the file, which may be large, is the caller's to delete. None
        when there is no such blob."""
        gone = self.incoming / secrets.token_hex(16)
        try:
            self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._placing:
                self.path(sha256).rename(gone)
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise _failure("delete", self.path(sha256), problem) from problem
        return gone

    def begin(self) -> "BlobWriter":
        """A writer of one blob; use it as a context manager, which drops what was not committed."""
        try:
            self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            return BlobWriter(self, self.incoming / secrets.token_hex(16))
        except OSError as problem:
            raise _failure("write", self.incoming, problem) from problem

    def put(self, chunks: Iterable[bytes], limit_bytes: int | None = None) -> Blob:
        """Store what `chunks` yields. TooLarge as soon as more than `limit_bytes` came; nothing is kept then."""
        with self.begin() as writer:
            for chunk in chunks:
                writer.write(chunk)
                if limit_bytes is not None and writer.size_bytes > limit_bytes:
                    raise TooLarge("The file", limit_bytes)
            return writer.commit()

    async def receive(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> Blob:
        """`put` for an event loop: hashing, writing and fsync run in threads while the next chunks arrive.

        Slow storage slows the iteration of `chunks`, so memory stays flat. Cancellation drops what was written.
        """
        writer = await self._run(self.begin)
        written: Future[None] | None = None
        try:
            block, block_bytes, size_bytes = [], 0, 0
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise TooLarge("The upload", limit_bytes)
                block.append(chunk)
                block_bytes += len(chunk)
                if block_bytes >= _BLOCK_BYTES:
                    if written:
                        await asyncio.wrap_future(written)
                    written = self._threads.submit(writer.write, b"".join(block))
                    block, block_bytes = [], 0
            if written:
                await asyncio.wrap_future(written)
            return await self._run(lambda: writer.finish(b"".join(block)))
        except BaseException:
            # Shielded: this may be a cancellation. The writer's own lock makes it wait for a write under way.
            await asyncio.shield(asyncio.wrap_future(self._threads.submit(writer.abort)))
            raise

    def delete_unreferenced(
        self, referenced: Collection[str], older_than_s: float, dry_run: bool = False
    ) -> list[Blob]:
        """Collect blobs that nobody refers to and that nobody renewed for `older_than_s`; answers what went, or with
        `dry_run` would go.

        Read `referenced` before the call: what is registered in between was renewed in between.
        """
        collected = []
        for path in self._all():
            if path.name in referenced:
                continue
            with self._placing:
                try:
                    state = path.stat()
                    if time.time() - state.st_mtime <= older_than_s:
                        continue
                    if not dry_run:
                        path.unlink()
                except FileNotFoundError:
                    continue
                except OSError as problem:
                    raise _failure("delete", path, problem) from problem
            collected.append(Blob(path.name, state.st_size))
        return collected

    def clean_temporary(self, older_than_s: float = 0.0) -> int:
        """Remove what crashes left half-written; answers how many files went. Call before the first upload."""
        removed = 0
        for path in self.incoming.iterdir() if self.incoming.is_dir() else ():
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _all(self) -> Iterator[Path]:
        shelves = [self._shelves] if self._flat else self._shelves.iterdir()
        for shelf in shelves if self._shelves.is_dir() else ():
            yield from (path for path in shelf.iterdir() if _SHA256.fullmatch(path.name))

    def _place(self, temporary: Path, blob: Blob) -> None:
        """Give a finished file its name; a blob of the same content and size stays and is only renewed."""
        path = self.path(blob.sha256)
        self._before(blob.sha256)
        with self._placing:
            if path.is_file() and path.stat().st_size == blob.size_bytes:
                os.utime(path)
                temporary.unlink()
                return
            new_shelf = not path.parent.is_dir()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.replace(path)
        _sync_folder(path.parent)
        if new_shelf:
            _sync_folder(path.parent.parent)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class BlobWriter:
    """One blob being written. `write`, `commit` and `abort` may come from different threads, one after the other.

    From 4 MiB on, hashing runs in a thread of its own beside the writing (both release the GIL), so that the
    throughput is that of the slower of the two and not of their sum. A chunk must not be changed after `write`.
    """

    def __init__(self, store: LocalBlobs, temporary: Path) -> None:
        self.size_bytes = 0
        self._store = store
        self._temporary = temporary
        self._lock = threading.RLock()
        self._digest = hashlib.sha256()
        self._to_hash: queue.Queue[bytes | None] = queue.Queue(_HASH_QUEUE_BLOCKS)
        self._hasher: threading.Thread | None = None
        self._descriptor: int | None = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> "BlobWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def write(self, chunk: bytes) -> None:
        """StorageFailed (disk full and the like) drops the blob."""
        with self._lock:
            descriptor = self._open()
            self._hash(chunk)
            self.size_bytes += len(chunk)
            try:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError as problem:
                self.abort()
                raise _failure("write", self._store.incoming, problem) from problem

    def commit(self, expected_sha256: str | None = None) -> Blob:
        """Make the blob durable and visible. InvalidFile when its content is not the expected one."""
        with self._lock:
            descriptor = self._open()
            try:
                self._to_hash.put(None)
                os.fchmod(descriptor, 0o400)
                os.fsync(descriptor)
                self._join()
                blob = Blob(self._digest.hexdigest(), self.size_bytes)
                if expected_sha256 not in (None, blob.sha256):
                    raise InvalidFile(
                        "the upload",
                        f"its SHA-256 is {blob.sha256}, announced was {expected_sha256}: "
                        "it changed on the way. Send it again.",
                    )
                self._store._place(self._temporary, blob)
            except OSError as problem:
                raise _failure("write", self._store.incoming, problem) from problem
            finally:
                # After a success the temporary file is gone already and this only closes.
                self.abort()
            return blob

    def finish(self, last: bytes) -> Blob:
        """`write` the last chunk and `commit`."""
        self.write(last)
        return self.commit()

    def abort(self) -> None:
        """Drop the blob; nothing happens after a commit or a second time."""
        with self._lock:
            if self._descriptor is None:
                return
            if self._hasher and self._hasher.is_alive():
                self._to_hash.put(None)
                self._join()
            os.close(self._descriptor)
            self._descriptor = None
            self._temporary.unlink(missing_ok=True)

    def _open(self) -> int:
        if self._descriptor is None:
            raise StorageFailed("This blob was committed or dropped already; begin another one.")
        return self._descriptor

    def _hash(self, chunk: bytes) -> None:
        if self._hasher is None and self.size_bytes + len(chunk) <= _THREAD_FROM_BYTES:
            self._digest.update(chunk)
            return
        if self._hasher is None:
            self._hasher = threading.Thread(target=self._hash_queued, name="blob-hash", daemon=True)
            self._hasher.start()
        self._to_hash.put(chunk)

    def _hash_queued(self) -> None:
        while (chunk := self._to_hash.get()) is not None:
            self._digest.update(chunk)

    def _join(self) -> None:
        if self._hasher:
            self._hasher.join()


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _missing(path: Path) -> StorageFailed:
    return StorageFailed(
        f"The stored file {path} is gone. Restore it from a backup, or register what it belongs to again.",
        {"sha256": path.name},
    )


def _failure(verb: str, path: Path, problem: OSError) -> StorageFailed:
    free_bytes = None
    try:
        free_bytes = shutil.disk_usage(path if path.exists() else path.parent).free
    except OSError:
        pass  # The folder itself is what is wrong; the sentence then goes without the number.
    room = "" if free_bytes is None else f" ({free_bytes:,} bytes are free there)"
    advice = (
        "Free some space and try again; nothing half-written was kept."
        if problem.errno in _DISK_FULL
        else "Look at the disk, its limits and the folder's permissions, then try again."
    )
    return StorageFailed(
        f"Cannot {verb} {path}: {problem.strerror or problem}{room}. {advice}",
        {"path": str(path), "free_bytes": free_bytes},
    )
