"""Layers: tar files that depend on nothing but what is in them.

Entries are sorted, belong to root, and have time 0 and one of two modes, but for folders that are what they were below;
PAX headers stand only where a name needs one.
A layer is stored uncompressed. Its digest is then the same on any machine, while what a compressor writes differs
between its versions (zlib, zlib-ng, libzstd); models hardly shrink; and building costs no more than copying. A layer
whose content is known already is not written again.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from argosy.errors import StorageFailed
from argosy.images.oci.layout import TAR, Descriptor, OciLayout, canonical

# A thread hashes what another one reads and writes; larger pieces make the hand-over cheaper.
_CHUNK_BYTES = 4 << 20
_BLOCK_BYTES = 512
# The annotation of a layer that says what it is, and what a base's is without one.
TITLE, BASE = "io.argosy.layer", "base"
# Part of every key: goes up when the same entries would make another tar.
_FORMAT = 1


@dataclass(frozen=True)
class Content:
    """A file's bytes, by path or as they are; or what a symbolic link points at."""

    source: Path | bytes
    executable: bool = False
    link: str = ""


@dataclass(frozen=True, slots=True)
class Folder:
    """Mode and owner of a folder."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class LayerBlob:
    """A layer in the layout. `diff_id` is the digest of the tar, whatever the blob is packed with."""

    descriptor: Descriptor
    diff_id: str
    title: str = ""

    def described(self) -> dict[str, Any]:
        """As a manifest lists it; what belongs to the base needs no word."""
        return {**self.descriptor.json(), **({} if self.title == BASE else {"annotations": {TITLE: self.title}})}


def link_to(target: str) -> Content:
    return Content(b"", link=target)


def layer_key(kind: str, content: object) -> str:
    """SHA-256 of what a layer holds; `content` is JSON that tells it from every other."""
    return hashlib.sha256(canonical({"format": _FORMAT, "kind": kind, "content": content})).hexdigest()


def known_layer(layout: OciLayout, key: str, title: str) -> LayerBlob | None:
    """The layer that was written under `key`, if all of it is still there."""
    known = layout.recall(key)
    if not known or not layout.has(known["digest"]) or layout.size(known["digest"]) != known["size"]:
        return None
    return LayerBlob(Descriptor(TAR, known["digest"], known["size"]), known["digest"], title)


def write_layer(
    layout: OciLayout, key: str, title: str, files: Mapping[str, Content], folders: Mapping[str, Folder] = {}
) -> LayerBlob:
    """A layer of `files` by their path in the image (`opt/argosy/...`), streamed into the layout.

    `folders` are those that lower layers have: a layer that names a folder says anew what it is.
    """
    digest, size_bytes = layout.add(tar_of(files, folders))
    layout.remember(key, {"digest": digest, "size": size_bytes})
    return LayerBlob(Descriptor(TAR, digest, size_bytes), digest, title)


def tar_of(files: Mapping[str, Content], folders: Mapping[str, Folder] = {}) -> Iterator[bytes]:
    """The archive of these files by their path, and of the folders they lie in."""
    for path in _sorted(files):
        content = files.get(path)
        entry = tarfile.TarInfo(path)
        if content is None:
            folder = folders.get(path, Folder())
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, folder.mode, folder.uid, folder.gid
        elif content.link:
            entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, content.link
        else:
            entry.mode, entry.size = 0o755 if content.executable else 0o644, _size(content.source)
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if content is not None and not content.link:
            yield from _bytes(content.source, entry.size)
            yield b"\0" * (-entry.size % _BLOCK_BYTES)
    yield b"\0" * (2 * _BLOCK_BYTES)


def _sorted(files: Mapping[str, Content]) -> Sequence[str]:
    """The files and the folders they lie in, each folder before what is in it."""
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents if str(parent) != "."}
    return sorted(folders | set(files), key=lambda path: path.split("/"))


def _size(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _bytes(source: Path | bytes, size_bytes: int) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    count = 0
    with source.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            count += len(chunk)
            yield chunk
    if count != size_bytes:
        raise StorageFailed(f"{source} changed while it was written into an image. Build the image again.")
