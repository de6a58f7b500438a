import bz2
import gzip
import io
import lzma
import os
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.models.decompress import Damaged, Decompressed, compression

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}


def unpacked(packed: bytes) -> bytes:
    kind = compression(packed[:16])
    assert kind is not None
    return io.BufferedReader(Decompressed(io.BytesIO(packed), kind)).read()


@pytest.mark.parametrize("kind", PACKERS)
@given(content=st.binary(max_size=3000), repeat=st.integers(1, 200))
def test_all_kinds_come_back(kind: str, content: bytes, repeat: int) -> None:
    packed = PACKERS[kind](content * repeat)
    assert compression(packed[:16]) == kind
    assert unpacked(packed) == content * repeat


@pytest.mark.parametrize("kind", ["gzip", "bz2", "xz"])
def test_members_in_a_row_are_one_stream(kind: str) -> None:
    pack = PACKERS[kind]
    first, second = os.urandom(200_000), os.urandom(70_000)
    assert unpacked(pack(first) + pack(b"") + pack(second)) == first + second
    assert unpacked(pack(first) + bytes(1024)) == first


@pytest.mark.parametrize("kind", PACKERS)
def test_damage_is_told(kind: str) -> None:
    packed = PACKERS[kind](os.urandom(100_000))
    with pytest.raises(Damaged, match="too early"):
        unpacked(packed[:50_000])
    if kind != "lzma":  # raw LZMA has no checksum
        with pytest.raises(Damaged):
            unpacked(packed[:50_000] + bytes(100) + packed[50_100:])


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_takes_no_memory(kind: str) -> None:
    """100 MB of zeros, read in blocks: only a block is ever in memory (and the dictionary of LZMA)."""
    packed = PACKERS[kind](bytes(100_000_000))
    tracemalloc.start()
    reader = Decompressed(io.BytesIO(packed), kind)
    block, total_bytes = bytearray(100_000), 0
    while got := reader.readinto(block):
        total_bytes += got
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total_bytes == 100_000_000
    assert peak_bytes < 20_000_000


def test_a_giant_dictionary_is_refused() -> None:
    """A header may ask for a dictionary of 4 GiB."""
    with pytest.raises(Damaged, match="lzma"):
        unpacked(b"\x5d\x00\x00\x00\xff" + b"\xff" * 8 + bytes(100))


@given(st.binary(max_size=200))
def test_other_bytes_are_damaged_or_nothing(data: bytes) -> None:
    for kind in PACKERS:
        try:
            Decompressed(io.BytesIO(data), kind).read()
        except Damaged:
            pass
    assert compression(b"\x80\x04\x95") is None
    assert compression(b"") is None
