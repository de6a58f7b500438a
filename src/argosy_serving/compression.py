"""Compressed request bodies: gzip and deflate always, zstd where the model's environment has it, up to a limit."""

import importlib.util
import io
import sys
import zlib
from collections.abc import Mapping
from typing import Any

from argosy_serving.refusals import BadInput, TooLarge, WrongType

_CHUNK_BYTES = 65_536
_FRAMES = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}  # deflate is the zlib format in HTTP
_MOST_MEMBERS = 4096
_ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "zstandard"
_ZSTD_WINDOW_LOG = 23  # 8 MB, the most a Content-Encoding may ask for (RFC 9659)


def encoding_of(headers: Mapping[bytes, bytes]) -> str:
    """How the body is compressed: gzip, deflate, zstd, or '' for not at all. Raises WrongType for anything else."""
    name = headers.get(b"content-encoding", b"").strip().lower().decode("latin-1")
    if name in ("", "identity"):
        return ""
    if name in ("gzip", "x-gzip"):
        return "gzip"
    if name == "deflate":
        return name
    if name == "zstd":
        if importlib.util.find_spec(_ZSTD) is None:
            raise WrongType("content-encoding zstd", "The model's environment has no zstandard; send gzip, or add it.")
        return name
    raise WrongType(f"content-encoding {name}", "Send the body as it is, or compressed with gzip.")


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body as it was. Raises BadInput when it is damaged, TooLarge beyond `limit_bytes`."""
    return _unzstd(body, limit_bytes) if encoding == "zstd" else _inflate(body, encoding, limit_bytes)


def _inflate(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Fed in chunks: what zlib leaves over is copied, and a body of many small members must not be copied for each."""
    out = bytearray()
    members, place, rest = 0, 0, b""
    inflater: Any = None
    while True:
        if not rest:
            rest, place = body[place : place + _CHUNK_BYTES], place + _CHUNK_BYTES
        if not rest:
            break
        if inflater is None:
            members += 1
            if members > _MOST_MEMBERS:
                raise _damaged(encoding, f"more than {_MOST_MEMBERS} members")
            inflater = zlib.decompressobj(_FRAMES[encoding])
        try:
            out += inflater.decompress(rest, limit_bytes - len(out) + 1)
        except zlib.error as problem:
            raise _damaged(encoding, str(problem)) from None
        if len(out) > limit_bytes:
            raise TooLarge(limit_bytes)
        rest = inflater.unconsumed_tail
        if inflater.eof:
            rest, inflater = inflater.unused_data, None
    if inflater is not None or not members:
        raise _damaged(encoding, "it ends too early")
    return bytes(out)


def _unzstd(body: bytes, limit_bytes: int) -> bytes:
    module: Any = importlib.import_module(_ZSTD)  # here, because only the model's own environment may have it
    try:
        if hasattr(module, "ZstdFile"):  # the standard library's, since Python 3.14
            options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
            with module.ZstdFile(io.BytesIO(body), options=options) as reader:
                out: bytes = reader.read(limit_bytes + 1)
        else:
            inflater = module.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
            out = inflater.stream_reader(body, read_across_frames=True).read(limit_bytes + 1)
    except (module.ZstdError, EOFError) as problem:
        raise _damaged("zstd", str(problem)) from None
    if len(out) > limit_bytes:
        raise TooLarge(limit_bytes)
    return out


def _damaged(encoding: str, why: str) -> BadInput:
    details = {"pointer": "", "expected": f"a body in {encoding}", "received": f"something else: {why}"}
    return BadInput(f"The request body cannot be decompressed as {encoding}: {why}.", details)
