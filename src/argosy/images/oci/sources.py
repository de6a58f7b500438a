"""Images that lie in files: an OCI layout's folder, its archive, and what `docker save` writes."""

import gzip
import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from argosy.errors import InvalidFile, InvalidOption
from argosy.images.oci.layout import CONFIG, MANIFEST, REF_NAME, TAR, Descriptor, canonical, parse_json

_CHUNK_BYTES = 1 << 20
_LARGEST_JSON_BYTES = 16 << 20


class Source(Protocol):
    """An image that can be read blob by blob. `read` raises InvalidFile for a blob that is not there."""

    reference: str

    def top(self) -> Descriptor: ...

    def read(self, digest: str) -> Iterator[bytes]: ...


@contextmanager
def open_source(reference: str) -> Iterator[Source]:
    """`oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE`. Raises InvalidFile, InvalidOption."""
    kind, _, rest = reference.partition(":")
    path, tag = _split(rest)
    if kind == "oci":
        if not (path / "index.json").is_file():
            raise InvalidFile(path, "is no OCI layout: it has no index.json")
        yield _Folder(reference, path, tag)
        return
    try:
        with tarfile.open(path) as tar:
            yield _OciArchive(reference, tar, tag) if kind == "oci-archive" else _DockerArchive(reference, tar)
    except (tarfile.TarError, OSError, EOFError, gzip.BadGzipFile) as problem:
        raise InvalidFile(path, f"cannot be read as an archive ({problem})") from problem


def _split(text: str) -> tuple[Path, str]:
    """Path and tag; a path may have colons itself."""
    path, colon, tag = text.rpartition(":")
    if colon and not Path(text).exists() and "/" not in tag:
        return Path(path).expanduser(), tag
    return Path(text).expanduser(), ""


def _chosen(reference: str, index: Mapping[str, Any], tag: str) -> Descriptor:
    """The one entry of an `index.json` that is meant."""
    try:
        entries = [Descriptor.of(item) for item in index["manifests"]]
    except (KeyError, TypeError, ValueError) as problem:
        raise InvalidFile(reference, f"its index.json cannot be used: {problem}") from None
    named = [entry for entry in entries if not tag or entry.annotations.get(REF_NAME) == tag]
    if len({entry.digest for entry in named}) != 1:
        tags = ", ".join(sorted(entry.annotations.get(REF_NAME, "untagged") for entry in entries)) or "nothing"
        raise InvalidOption("--base", reference, f"it must name one image, and there are: {tags}. Write oci:DIR:TAG")
    return named[0]


class _Folder:
    def __init__(self, reference: str, folder: Path, tag: str) -> None:
        self.reference, self._folder, self._tag = reference, folder, tag

    def top(self) -> Descriptor:
        path = self._folder / "index.json"
        return _chosen(self.reference, parse_json(path.read_bytes(), str(path)), self._tag)

    def read(self, digest: str) -> Iterator[bytes]:
        algorithm, _, value = digest.partition(":")
        try:
            with (self._folder / "blobs" / algorithm / value).open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    yield chunk
        except OSError as problem:
            raise InvalidFile(self.reference, f"its blob {digest} cannot be read: {problem.strerror}") from problem


class _OciArchive:
    def __init__(self, reference: str, tar: tarfile.TarFile, tag: str) -> None:
        self.reference, self._tar, self._tag = reference, tar, tag
        self._members = members(tar)

    def top(self) -> Descriptor:
        raw = b"".join(read_member(self._tar, self._members, "index.json"))
        return _chosen(self.reference, parse_json(raw, f"{self.reference}: index.json"), self._tag)

    def read(self, digest: str) -> Iterator[bytes]:
        algorithm, _, value = digest.partition(":")
        return read_member(self._tar, self._members, f"blobs/{algorithm}/{value}")


class _DockerArchive:
    """What `docker save` and `podman save` write: one image becomes an OCI manifest over the very same layers."""

    def __init__(self, reference: str, tar: tarfile.TarFile) -> None:
        self.reference, self._tar = reference, tar
        self._members = members(tar)
        self._places: dict[str, str] = {}
        self._manifest = b""

    def top(self) -> Descriptor:
        raw = b"".join(read_member(self._tar, self._members, "manifest.json"))
        images = parse_json(b'{"images":' + raw + b"}", f"{self.reference}: manifest.json")["images"]
        if not isinstance(images, list) or len(images) != 1:
            raise InvalidFile(self.reference, "must hold exactly one image")
        config = self._descriptor(str(images[0]["Config"]), CONFIG)
        layers = [self._descriptor(str(name), "") for name in images[0]["Layers"]]
        self._manifest = canonical(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.json(),
                "layers": [layer.json() for layer in layers],
            }
        )
        digest = f"sha256:{hashlib.sha256(self._manifest).hexdigest()}"
        return Descriptor(MANIFEST, digest, len(self._manifest))

    def read(self, digest: str) -> Iterator[bytes]:
        if digest in self._places:
            return read_member(self._tar, self._members, self._places[digest])
        return iter([self._manifest])

    def _descriptor(self, name: str, media_type: str) -> Descriptor:
        whole, size_bytes, head = hashlib.sha256(), 0, b""
        for chunk in read_member(self._tar, self._members, name):
            head = head or chunk[:2]
            whole.update(chunk)
            size_bytes += len(chunk)
        digest = f"sha256:{whole.hexdigest()}"
        self._places[digest] = name
        packed = f"{TAR}+gzip" if head == b"\x1f\x8b" else TAR
        return Descriptor(media_type or packed, digest, size_bytes)


def members(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    return {entry.name.removeprefix("./"): entry for entry in tar}


def read_member(tar: tarfile.TarFile, found: Mapping[str, tarfile.TarInfo], name: str) -> Iterator[bytes]:
    """Raises InvalidFile when there is no such file. Links within the archive are followed (Docker makes some)."""
    entry = found.get(name)
    stream = tar.extractfile(entry) if entry is not None and (entry.isfile() or entry.issym()) else None
    if stream is None:
        raise InvalidFile(tar.name, f"has no file {name}")
    with stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
