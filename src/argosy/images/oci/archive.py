"""One platform of an image as one file: an OCI archive that `docker load` of any age reads too.

It holds what an OCI layout holds, and beside it the `manifest.json` of `docker save` over the same blobs.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from argosy.images.oci.layout import INDEX, REF_NAME, Descriptor, OciLayout, canonical
from argosy.images.oci.tree import held

_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 512


@dataclass(frozen=True)
class _Member:
    """`content` is bytes, or the digest of a blob."""

    name: str
    size_bytes: int
    content: bytes | str


def archive(layout: OciLayout, name: str, descriptor: Descriptor) -> tuple[int, Iterator[bytes]]:
    """Size in bytes and content of the archive of the image manifest `descriptor`; the same each time."""
    members = _members(layout, name, descriptor)
    size_bytes = sum(len(_head(m)) + m.size_bytes + -m.size_bytes % _BLOCK_BYTES for m in members) + 2 * _BLOCK_BYTES
    return size_bytes, held(layout, descriptor.digest, _written(layout, members))


def _members(layout: OciLayout, name: str, descriptor: Descriptor) -> list[_Member]:
    manifest = layout.json(descriptor.digest)
    digests = [descriptor.digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    named = Descriptor(
        descriptor.media_type,
        descriptor.digest,
        descriptor.size_bytes,
        descriptor.platform,
        {REF_NAME: name},
    )
    docker = [{"Config": _path(digests[1]), "RepoTags": [name], "Layers": [_path(digest) for digest in digests[2:]]}]
    texts = {
        "oci-layout": canonical({"imageLayoutVersion": "1.0.0"}),
        "index.json": canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named.json()]}),
        "manifest.json": canonical(docker),
    }
    return [
        *(_Member(path, len(text), text) for path, text in texts.items()),
        *(_Member(_path(digest), layout.size(digest), digest) for digest in dict.fromkeys(digests)),
    ]


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _head(member: _Member) -> bytes:
    entry = tarfile.TarInfo(member.name)
    entry.mode, entry.size = 0o644, member.size_bytes
    return entry.tobuf(tarfile.PAX_FORMAT)


def _written(layout: OciLayout, members: list[_Member]) -> Iterator[bytes]:
    for member in members:
        yield _head(member)
        if isinstance(member.content, bytes):
            yield member.content
        else:
            with layout.open(member.content) as blob:
                while chunk := blob.read(_CHUNK_BYTES):
                    yield chunk
        yield b"\0" * (-member.size_bytes % _BLOCK_BYTES)
    yield b"\0" * (2 * _BLOCK_BYTES)
