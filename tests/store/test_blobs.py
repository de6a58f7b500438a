import asyncio
import contextlib
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.errors import InvalidFile, InvalidOption, StorageFailed, TooLarge
from argosy.store.blobs import Blob, LocalBlobs


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[LocalBlobs]:
    store = LocalBlobs(tmp_path / "blobs")
    yield store
    store.close()


def left_over(blobs: LocalBlobs) -> list[Path]:
    return list(blobs.incoming.iterdir()) if blobs.incoming.is_dir() else []


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=20))
def test_what_is_put_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    blobs = LocalBlobs(tmp_path_factory.mktemp("blobs"))
    content = b"".join(chunks)
    blob = blobs.put(chunks)
    assert blob == Blob(sha(content), len(content))
    with blobs.open(blob.sha256) as stream:
        assert stream.read() == content
    assert blobs.verify(blob.sha256) == blob


@pytest.mark.parametrize("size_bytes", [0, 1, (4 << 20) - 1, (4 << 20) + 1, 30_000_000])
@pytest.mark.parametrize("chunk_bytes", [65_536, 3_000_001])
def test_hashing_in_a_thread_gives_the_same_digest(blobs: LocalBlobs, size_bytes: int, chunk_bytes: int) -> None:
    content = os.urandom(size_bytes)
    blob = blobs.put(content[at : at + chunk_bytes] for at in range(0, size_bytes, chunk_bytes))
    assert blob == Blob(sha(content), size_bytes)
    assert blobs.path(blob.sha256).read_bytes() == content
    assert not [thread for thread in threading.enumerate() if thread.name == "blob-hash"]


def test_blobs_are_read_only_in_a_private_folder(blobs: LocalBlobs) -> None:
    path = blobs.path(blobs.put([b"x"]).sha256)
    assert path.stat().st_mode & 0o777 == 0o400
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.relative_to(path.parents[2]).parts[:2] == ("sha256", path.name[:2])


def test_the_same_content_is_stored_once_and_renewed(blobs: LocalBlobs) -> None:
    path = blobs.path(blobs.put([b"same"]).sha256)
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    blobs.put([b"sa", b"me"])
    assert path.stat().st_ino == inode
    assert time.time() - path.stat().st_mtime < 60
    assert not left_over(blobs)


def test_a_damaged_blob_is_found_and_healed_by_another_upload(blobs: LocalBlobs) -> None:
    blob = blobs.put([b"content"])
    blobs.path(blob.sha256).chmod(0o600)
    blobs.path(blob.sha256).write_bytes(b"other")
    with pytest.raises(StorageFailed, match="is corrupt"):
        blobs.verify(blob.sha256)
    blobs.put([b"content"])
    assert blobs.verify(blob.sha256) == blob


def test_commit_refuses_another_digest_than_announced(blobs: LocalBlobs) -> None:
    with blobs.begin() as writer:
        writer.write(b"abc")
        with pytest.raises(InvalidFile, match="changed on the way"):
            writer.commit(sha(b"abd"))
    assert not left_over(blobs)
    assert not blobs.has(sha(b"abc"))


def test_what_is_not_committed_leaves_nothing(blobs: LocalBlobs) -> None:
    with blobs.begin() as writer:
        writer.write(bytes(9_000_000))
        assert len(left_over(blobs)) == 1
    assert not left_over(blobs)
    writer.abort()
    with pytest.raises(StorageFailed, match="committed or dropped"):
        writer.write(b"x")


def test_a_limit_is_kept(blobs: LocalBlobs) -> None:
    with pytest.raises(TooLarge, match="1,000 bytes"):
        blobs.put([bytes(999), bytes(2)], limit_bytes=1000)
    assert blobs.put([bytes(1000)], limit_bytes=1000).size_bytes == 1000
    assert not left_over(blobs)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 63 + "\n"])
def test_only_digests_are_names(blobs: LocalBlobs, name: str) -> None:
    with pytest.raises(InvalidOption):
        blobs.path(name)


def test_a_missing_blob_says_where_it_should_be(blobs: LocalBlobs) -> None:
    assert not blobs.has("a" * 64)
    assert blobs.touch("a" * 64) is None
    with pytest.raises(StorageFailed, match=re.escape(str(blobs.path("a" * 64)))):
        blobs.open("a" * 64)
    blobs.delete("a" * 64)


def test_collection_goes_by_reference_and_age(blobs: LocalBlobs) -> None:
    kept, young, old, renewed = (blobs.put([name]) for name in (b"kept", b"young", b"old", b"renewed"))
    for blob in (kept, old, renewed):
        os.utime(blobs.path(blob.sha256), (1, 1))
    assert blobs.touch(renewed.sha256) == len(b"renewed")
    assert blobs.delete_unreferenced({kept.sha256}, older_than_s=3600) == [old]
    assert blobs.has(kept.sha256)
    assert blobs.has(young.sha256)
    assert blobs.has(renewed.sha256)
    assert not blobs.has(old.sha256)


def test_collection_never_takes_what_is_being_uploaded(blobs: LocalBlobs) -> None:
    """Uploads of old, unreferenced content race with the collector; whoever is told "stored" must find it."""
    content = [os.urandom(100) for _ in range(20)]
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            blobs.delete_unreferenced(set(), older_than_s=3600)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for _ in range(10):
            for item in content:
                blob = blobs.put([item])
                assert blobs.has(blob.sha256)
                # Old again: from here on the collector may have it, even before this call.
                with contextlib.suppress(FileNotFoundError):
                    os.utime(blobs.path(blob.sha256), (1, 1))
    finally:
        stop.set()
        collector.join()


def test_crashes_leave_files_that_the_next_start_removes(blobs: LocalBlobs) -> None:
    writer = blobs.begin()
    writer.write(b"half")
    assert blobs.clean_temporary(older_than_s=60) == 0
    assert blobs.clean_temporary() == 1
    assert not left_over(blobs)
    writer.abort()
    assert LocalBlobs(blobs.incoming / "never made").clean_temporary() == 0


LIMITED = """
import resource, sys
from pathlib import Path
from argosy.errors import StorageFailed
from argosy.store.blobs import LocalBlobs
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
blobs = LocalBlobs(Path(sys.argv[1]))
try:
    blobs.put([bytes(1_000_000)] * 10)
except StorageFailed as problem:
    assert problem.details["free_bytes"] > 0, problem.details
    print(problem)
assert list(blobs.incoming.iterdir()) == []
"""


def test_a_write_that_fails_leaves_nothing_and_says_where(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"Cannot write {tmp_path}.* bytes are free there", done.stdout)


def test_a_full_disk_is_told_as_such(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(
        StorageFailed, match=r"No space left on device \([\d,]+ bytes are free there\). Free some space"
    ):
        blobs.put([b"x"])
    assert not left_over(blobs)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailed, match="Cannot write"):
        LocalBlobs(tmp_path / "file" / "blobs").put([b"x"])


async def pieces(content: bytes, chunk_bytes: int) -> AsyncIterator[bytes]:
    for at in range(0, len(content), chunk_bytes):
        await asyncio.sleep(0)
        yield content[at : at + chunk_bytes]


@pytest.mark.parametrize("size_bytes", [0, 5, 1 << 20, 7_654_321])
def test_receive_stores_what_arrives(blobs: LocalBlobs, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    assert asyncio.run(blobs.receive(pieces(content, 60_000), 10_000_000)) == Blob(sha(content), size_bytes)


def test_receive_keeps_the_limit(blobs: LocalBlobs) -> None:
    with pytest.raises(TooLarge):
        asyncio.run(blobs.receive(pieces(bytes(3_000_000), 60_000), 2_000_000))
    assert not left_over(blobs)


def test_receive_leaves_nothing_when_the_client_goes_away(blobs: LocalBlobs) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(3_000_000)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(blobs.receive(broken(), 10_000_000))
    assert not left_over(blobs)


def test_receive_can_be_cancelled(blobs: LocalBlobs) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield bytes(500_000)

    async def main() -> None:
        task = asyncio.create_task(blobs.receive(endless(), 10**12))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not left_over(blobs)


def test_receive_does_not_hold_up_the_loop(blobs: LocalBlobs) -> None:
    """While storage takes 250 ms a block, the loop runs other tasks in between."""

    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)

    async def main() -> None:
        pulse = asyncio.create_task(heartbeat())
        await blobs.receive(pieces(bytes(8 << 20), 1 << 16), 1 << 30)
        pulse.cancel()

    write = os.write

    def slow(descriptor: int, data: bytes) -> int:
        time.sleep(0.25)
        return write(descriptor, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", slow)
        began = time.perf_counter()
        asyncio.run(main())
        took = time.perf_counter() - began
    assert took > 8 * 0.25
    assert longest < took / 4


def test_memory_stays_flat(tmp_path: Path) -> None:
    """300 MB through `put` in a process of its own."""
    program = (
        "import resource, sys; from pathlib import Path; from argosy.store.blobs import LocalBlobs\n"
        "blobs = LocalBlobs(Path(sys.argv[1])); blobs.put([bytes(1 << 20)] * 10)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "blobs.put(bytes(1 << 20) for _ in range(300))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50_000
