"""Compressed streams read with bounded memory: gzip, zlib, bzip2, xz and lzma by their first bytes.

The standard library's own file objects may inflate a small input to gigabytes in one call (bzip2) or reserve the
dictionary that a hostile header asks for (xz, up to 4 GiB); these do neither.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

_BLOCK_BYTES = 64 << 10
# `xz -9` needs 64 MiB to decompress; its largest dictionaries, 1.5 GiB, are nothing a server should reserve.
_LZMA_MEMORY_BYTES = 128 << 20


class Damaged(Exception):
    """The compressed stream is cut off or not what its first bytes say. The text says which."""


class _Inflater(Protocol):
    """What zlib, bz2 and lzma have in common once `_Zlib` has evened out the difference."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib in the shape of bz2 and lzma. `window_bits` as in zlib.decompressobj: 31 is gzip, 15 is zlib."""

    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self._full = len(out) == max_length
        return out


def compression(head: bytes) -> str | None:
    """gzip, zlib, bz2, xz, lzma or lz4 by the first bytes of a stream; None when it is none of them."""
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return kind
    # zlib has no magic, but its first two bytes are a multiple of 31 (RFC 1950, 2.2), and all use a window of 32 KiB.
    if len(head) >= 2 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib"
    return None


_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
)

_MAGIC_BYTES = max(len(magic) for magic, _ in _MAGICS)

_INFLATERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: _Zlib(31),
    "zlib": lambda: _Zlib(15),
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY_BYTES),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY_BYTES),
}


class Decompressed(io.RawIOBase):
    """The decompressed bytes of `source`, in one pass; several compressed members in a row count as one stream.

    `kind` as `compression` answers it, lz4 excepted. Raises Damaged. Does not close `source`.
    """

    def __init__(self, source: BinaryIO, kind: str) -> None:
        self._source = source
        self._make = _INFLATERS[kind]
        self._inflater: _Inflater = self._make()
        self._kind = kind
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        room = memoryview(target).cast("B")
        out = self._inflate(len(room)) if len(room) else b""
        room[: len(out)] = out
        return len(out)

    def _inflate(self, limit_bytes: int) -> bytes:
        while True:
            if self._inflater.eof and not self._next_member():
                return b""
            if self._inflater.needs_input and not self._rest:
                self._rest = self._source.read(_BLOCK_BYTES)
                if not self._rest:
                    raise Damaged(f"its {self._kind} stream ends too early")
            data, self._rest = self._rest, b""
            try:
                out = self._inflater.decompress(data, limit_bytes)
            except (zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError, ValueError) as problem:
                raise Damaged(f"its {self._kind} stream is damaged ({problem})") from problem
            if out:
                return out

    def _next_member(self) -> bool:
        """Begin the next member of a concatenated stream; False at the end (padding and foreign bytes end it too)."""
        if self._ended:
            return False
        data = self._inflater.unused_data + self._rest
        if len(data) < _MAGIC_BYTES:
            data += self._source.read(_BLOCK_BYTES)
        self._ended = self._kind == "zlib" or compression(data[:_MAGIC_BYTES]) != self._kind
        if not self._ended:
            self._inflater, self._rest = self._make(), data
        return not self._ended
