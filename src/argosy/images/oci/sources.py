"""Images that lie in files: an OCI layout's folder, its archive, and what `docker save` writes."""

import gzip
import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from argosy.errors import InvalidFile, InvalidOption, TooLarge
from argosy.images.oci.layout import CONFIG, MANIFEST, REF_NAME, TAR, Descriptor, canonical, parse_json
from argosy.images.oci.pythons import Entry

_CHUNK_BYTES = 1 << 20
_LARGEST_JSON_BYTES = 16 << 20
# Far more than any image has; an archive may name millions.
_MOST_MEMBERS = 100_000
_LONGEST_CHAIN = 20


class Source(Protocol):
    """An image that can be read blob by blob. `read` raises InvalidFile for a blob that is not there."""

    reference: str

    def top(self) -> Descriptor: ...

    def read(self, digest: str) -> Iterator[bytes]: ...

    def title(self) -> str:
        """What the image is called in there, empty when nobody says."""


@contextmanager
def open_source(reference: str, limit_bytes: int) -> Iterator[Source]:
    """`oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE`. Raises InvalidFile, InvalidOption, and TooLarge
    for an archive that holds more than `limit_bytes`."""
    kind, _, rest = reference.partition(":")
    path, tag = _split(rest)
    if kind == "oci":
        if not (path / "index.json").is_file():
            raise InvalidFile(path, "is no OCI layout: it has no index.json")
        yield _Folder(reference, path, tag)
        return
    try:
        with tarfile.open(path, tarinfo=Entry) as tar:
            held = members(tar, limit_bytes)
            archive = _OciArchive if kind == "oci-archive" else _DockerArchive
            yield archive(reference, tar, held, tag)
    except (tarfile.TarError, OSError, EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise InvalidFile(path, f"cannot be read as an archive ({problem})") from problem


@contextmanager
def open_archive(path: Path, limit_bytes: int, tag: str = "") -> Iterator[Source]:
    """An archive of either kind, whichever it is; `tag` tells one of several images. Raises InvalidFile, and TooLarge
    when it holds more than `limit_bytes`."""
    try:
        with tarfile.open(path, tarinfo=Entry) as tar:
            held = members(tar, limit_bytes)
            if "index.json" in held:
                yield _OciArchive("the archive", tar, held, tag)
            elif "manifest.json" in held:
                yield _DockerArchive("the archive", tar, held, tag)
            else:
                raise InvalidFile("the archive", "is no image: it has neither index.json nor manifest.json")
    except (tarfile.TarError, OSError, EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise InvalidFile("the archive", f"cannot be read as a tar file ({problem})") from problem


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
        raise InvalidOption("the image", reference, f"it must name one image by its tag, and there are: {tags}")
    return named[0]


class _Folder:
    def __init__(self, reference: str, folder: Path, tag: str) -> None:
        self.reference, self._folder, self._tag = reference, folder, tag

    def top(self) -> Descriptor:
        path = self._folder / "index.json"
        return _chosen(self.reference, parse_json(path.read_bytes(), str(path)), self._tag)

    def title(self) -> str:
        return self.top().annotations.get(REF_NAME, "")

    def read(self, digest: str) -> Iterator[bytes]:
        algorithm, _, value = digest.partition(":")
        try:
            with (self._folder / "blobs" / algorithm / value).open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    yield chunk
        except OSError as problem:
            raise InvalidFile(self.reference, f"its blob {digest} cannot be read: {problem.strerror}") from problem


class _OciArchive:
    def __init__(self, reference: str, tar: tarfile.TarFile, held: Mapping[str, tarfile.TarInfo], tag: str) -> None:
        self.reference, self._tar, self._members, self._tag = reference, tar, held, tag

    def top(self) -> Descriptor:
        raw = _text(self._tar, self._members, "index.json")
        return _chosen(self.reference, parse_json(raw, f"{self.reference}: index.json"), self._tag)

    def title(self) -> str:
        return self.top().annotations.get(REF_NAME, "")

    def read(self, digest: str) -> Iterator[bytes]:
        algorithm, _, value = digest.partition(":")
        return read_member(self._tar, self._members, f"blobs/{algorithm}/{value}")


class _DockerArchive:
    """What `docker save` and `podman save` write: one image becomes an OCI manifest over the very same layers."""

    def __init__(self, reference: str, tar: tarfile.TarFile, held: Mapping[str, tarfile.TarInfo], tag: str) -> None:
        self.reference, self._tar, self._members, self._tag = reference, tar, held, tag
        self._places: dict[str, str] = {}
        self._manifest = b""

    def top(self) -> Descriptor:
        image = self._image()
        try:
            config = self._descriptor(str(image["Config"]), CONFIG)
            layers = [self._descriptor(str(name), "") for name in image["Layers"]]
        except (KeyError, TypeError) as problem:
            raise InvalidFile(self.reference, f"its manifest.json cannot be used ({problem!r})") from None
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

    def title(self) -> str:
        return next(iter(_tags(self._image())), "")

    def _image(self) -> dict[str, Any]:
        raw = _text(self._tar, self._members, "manifest.json")
        images = parse_json(b'{"images":' + raw + b"}", f"{self.reference}: manifest.json")["images"]
        if not isinstance(images, list):
            raise InvalidFile(self.reference, "its manifest.json is no list")
        named = [i for i in images if isinstance(i, dict) and (not self._tag or self._tag in _tags(i))]
        if len(named) != 1:
            tags = ", ".join(tag for image in images if isinstance(image, dict) for tag in _tags(image)) or "untagged"
            raise InvalidOption(
                "the image", self.reference, f"it must name one image by its tag, and there are: {tags}"
            )
        return named[0]

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


def _tags(image: Mapping[str, Any]) -> list[str]:
    tags = image.get("RepoTags")
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


def members(tar: tarfile.TarFile, limit_bytes: int | None = None) -> dict[str, tarfile.TarInfo]:
    """By name. Nothing is ever unpacked to where a name says. A packed archive is unpacked to be looked through: never
    beyond `limit_bytes`, if any are given."""
    found = {}
    for count, entry in enumerate(tar):
        if count >= _MOST_MEMBERS:
            raise InvalidFile("the archive", f"holds more than {_MOST_MEMBERS:,} files, which no image does")
        # Before the next one is looked for, which reads all of this.
        if limit_bytes is not None and entry.offset_data + entry.size > limit_bytes:
            raise TooLarge("The archive", limit_bytes)
        found[entry.name.removeprefix("./")] = entry
    return found


def _text(tar: tarfile.TarFile, found: Mapping[str, tarfile.TarInfo], name: str) -> bytes:
    """A JSON file of the archive."""
    raw = b""
    for chunk in read_member(tar, found, name):
        raw += chunk
        if len(raw) > _LARGEST_JSON_BYTES:
            raise InvalidFile(name, f"is larger than {_LARGEST_JSON_BYTES:,} bytes, which no such file is")
    return raw


def read_member(tar: tarfile.TarFile, found: Mapping[str, tarfile.TarInfo], name: str) -> Iterator[bytes]:
    """As `open_member`, in pieces."""
    with open_member(tar, found, name) as stream:
        yield from pieces(stream)


def open_member(tar: tarfile.TarFile, found: Mapping[str, tarfile.TarInfo], name: str) -> IO[bytes]:
    """Raises InvalidFile when there is no such file. Links within the archive are followed (Docker makes some)."""
    entry = found.get(name)
    for _ in range(_LONGEST_CHAIN):
        if entry is None or not (entry.issym() or entry.islnk()):
            break
        base = posixpath.dirname(entry.name) if entry.issym() else ""
        entry = found.get(posixpath.normpath(posixpath.join(base, entry.linkname)))
    stream = tar.extractfile(entry) if entry is not None and entry.isfile() else None
    if stream is None:
        raise InvalidFile("the archive", f"has no file {name}")
    return stream


def pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk
